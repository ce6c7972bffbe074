"""What is this directory? The kinds that `inspect`, `report` and `verify` know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from depthtok.disk.regular import require_no_special
from depthtok.errors import SourceError, as_written
from depthtok.sources.demonstrations import is_demonstrations
from depthtok.sources.foreign import is_lerobot
from depthtok.sources.rlds import is_rlds
from depthtok.stores import codebook
from depthtok.stores.spec import ROOT, is_store

_DESCRIBED = {
    "store": f"parts/{ROOT}",
    "codebook": codebook.META,
    "evaluation": "eval.json",
    "rlds": "features.json",
}
RUN, LOG, EVALUATION = "config.json", "metrics.jsonl", "eval.json"


@contextmanager
def as_described(path: Path, kind: str) -> Iterator[None]:
    """Raises `CorruptPart`, which names the file, where the facts in the description of what lies
    at `path` are none that depthtok writes. Its digest fits: somebody made it so."""
    file = path / _DESCRIBED.get(kind, "")
    if kind == "run":
        from vla.training import checkpoint

        steps = checkpoint.steps(path)
        file = steps[-1] / checkpoint.STATE if steps else path / RUN
    with as_written(file, "make it again, or copy it again from where it was made"):
        yield


def kind_of(path: Path) -> str | None:
    """`store`, `codebook`, `run`, `evaluation`, `rlds` or `files` (LeRobot, HDF5 demonstrations);
    None for anything else."""
    require_no_special(path)
    if is_store(path):
        return "store"
    if (path / codebook.META).is_file():
        return "codebook"
    if is_run(path):
        return "run"
    if (path / EVALUATION).is_file():
        return "evaluation"
    if is_lerobot(path) or is_demonstrations(path):
        return "files"
    return "rlds" if is_rlds(path) else None


def is_run(path: Path) -> bool:
    """Whether a training ran in this directory."""
    logged = any((path / name).is_file() for name in (RUN, LOG))
    return logged and (path / "checkpoints").is_dir()


def inside(path: Path) -> list[str]:
    """Directories in this one, and in those in it, that are something we know."""
    children = sorted(path.glob("*")) + sorted(path.glob("*/*")) if path.is_dir() else []
    return [
        str(child)
        for child in children
        if child.is_dir() and kind_of(child) and not is_store(child.parent)
    ]


def not_known(path: Path) -> SourceError:
    """What to raise for a directory that is nothing we know. Names what is known inside it."""
    paths = inside(path)
    run = next((folder for folder in path.parents if is_run(folder)), None)
    if run and path.exists():
        return SourceError(f"{path} is a part of a run", remedy=f"name the run: {run}")
    return SourceError(
        f"{path} is not a store, codebook, training run, evaluation, export or RLDS data set"
        if path.exists()
        else f"there is no {path}",
        remedy=f"name one of the directories in it: {', '.join(paths[:8])}"
        if paths
        else "name a directory with dataset_info.json, or one that depthtok wrote",
    )
