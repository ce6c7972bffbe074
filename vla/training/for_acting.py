"""A run without what only training needs: one checkpoint without its optimiser, and the logs."""

from __future__ import annotations

import json
from pathlib import Path

from depthtok.config import digest
from vla.evaluation.depth_view import FILE as PICTURE
from vla.training import checkpoint
from vla.training.checkpoint import BEST, CONFIG, STATE
from vla.training.runlog import METRICS, VALIDATIONS, sums_of

OPTIMISER = "optimizer.safetensors"


def run_of(folder: Path) -> Path | None:
    """The run that a checkpoint belongs to; None where it lies alone."""
    run = folder.parent if folder.name == BEST else folder.parent.parent
    is_inside = folder.name == BEST or folder.parent.name == "checkpoints"
    return run if is_inside and (run / CONFIG).is_file() else None


def files(folder: Path) -> dict[str, Path | bytes]:
    """The files of a run that holds this checkpoint alone, by their names in it. Acting, checking
    (`depthtok verify`) and starting anew from it work as with the run that it is of; going on does
    not. Raises `WeightsError` and `CorruptPart`."""
    step = checkpoint.read_state(folder).step
    inside = checkpoint.place(Path(), step).as_posix()
    run = run_of(folder)
    chosen: dict[str, Path | bytes] = {CONFIG: folder / CONFIG}
    for path in _beside(run) if run else ():
        if path.is_file():
            chosen[path.name] = path
    for path in sorted(folder.iterdir()):
        if path.name not in (OPTIMISER, STATE):
            chosen[f"{inside}/{path.name}"] = path
    chosen[f"{inside}/{STATE}"] = _state(folder, set(chosen))
    return chosen


def _beside(run: Path) -> list[Path]:
    """The files of a run that go along with a checkpoint."""
    logs = [run / METRICS, run / VALIDATIONS]
    return [*logs, *map(sums_of, logs), run / PICTURE]


def _state(folder: Path, present: set[str]) -> bytes:
    """The checkpoint's state.json as it is with these other files."""
    written = (folder / STATE).read_bytes()
    content = json.loads(written)
    if content.pop("digest", None) is None:  # of a version that had none
        return written
    content["files"] = {k: v for k, v in content["files"].items() if k != OPTIMISER}
    if beside := content.get("beside"):
        logs = {name: mark for name, mark in beside.get("logs", {}).items() if name in present}
        named = [name for name in beside.get("present", ()) if name in present]
        content["beside"] = {**beside, "logs": logs, "present": named}
    return json.dumps({**content, "digest": digest(content)}, indent=1).encode()
