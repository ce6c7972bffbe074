"""Is a training run what it was when it was written? Every file of it has a digest somewhere:

    a checkpoint's files    in its state.json, which has its own; without it the checkpoint is lost
    metrics.jsonl, validation.jsonl    line by line in metrics.sums and validation.sums; how far
                            they went, and which files there were, in the newest checkpoint
    config.json             equal to that of the newest checkpoint
    depth.npz               in itself

Runs of older versions lack some of these. What cannot be checked in them is said, as a note.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from depthtok.disk.json_files import read_json_object
from depthtok.disk.regular import reading
from depthtok.errors import DepthtokError
from depthtok.stores.verify import Finding
from vla.config import Config
from vla.evaluation.depth_view import FILE as PICTURE
from vla.evaluation.depth_view import DepthView
from vla.training import checkpoint
from vla.training.checkpoint import BEST, CONFIG, STATE
from vla.training.runlog import DAMAGED, METRICS, VALIDATIONS, Entries, Log, Mark, sums_of

NOTED = (CONFIG, BEST, PICTURE)  # a checkpoint notes which of these there were


def beside(run: Path, logs: Sequence[Log]) -> dict[str, Any]:
    """What a checkpoint notes about the files beside it."""
    marks = {log.path.name: vars(log.mark()) for log in logs}
    return {"logs": marks, "present": [name for name in NOTED if (run / name).exists()]}


def read_log(run: Path, name: str) -> list[dict[str, Any]]:
    """The lines of a run's log, none if it has none. Raises `CorruptPart` for one that was changed
    or lost lines after it was written."""
    entries = Entries.read(run / name)
    newest = checkpoint.steps(run)[-1:]
    entries.require_whole(_mark(newest[0], name) if newest else None)
    return entries.objects()


def settings(run: Path) -> Config:
    """Those of a run: of its newest checkpoint, which are verified, or of one just begun."""
    if steps := checkpoint.steps(run):
        return checkpoint.read_config(steps[-1])
    return Config.from_json(read_json_object(run / CONFIG, DAMAGED))


def _mark(path: Path, name: str) -> Mark | None:
    """How far a log went when a checkpoint was written; None if it does not say."""
    logs = checkpoint.described(path)["beside"].get("logs", {})
    return Mark.from_json(logs[name], path / STATE) if name in logs else None


def findings(path: Path) -> Iterator[Finding]:
    """What is damaged or missing in a checkpoint, or in a run with all its checkpoints."""
    if (path / STATE).is_file():
        yield from _findings_of(partial(_checkpoint, path), path)
        return
    steps = checkpoint.steps(path)
    for folder in [*steps, *([path / BEST] if (path / BEST).exists() else [])]:
        yield from _findings_of(partial(_checkpoint, folder), folder)
    if not steps:
        yield Finding(f"{path} has no checkpoint yet", note=True)
    yield from _findings_of(lambda: _against_newest(path, steps[-1]) if steps else iter(()), path)
    for name in (METRICS, VALIDATIONS):
        yield from _findings_of(partial(_log, path, name), path / name)
    yield from _findings_of(lambda: _picture(path), path / PICTURE)


def _findings_of(check: Callable[[], Iterator[Finding]], path: Path) -> Iterator[Finding]:
    """The findings of a check of `path`, and what it raises as one."""
    try:
        with reading(path):
            yield from check()
    except DepthtokError as error:
        yield Finding(error.problem)


def _checkpoint(path: Path) -> Iterator[Finding]:
    try:
        about = checkpoint.described(path)
        step = checkpoint.read_state(path).step
    except DepthtokError as error:
        yield Finding(error.problem)
        return
    if path.name.startswith("step-") and path.name != checkpoint.place(path, step).name:
        yield Finding(f"{path} holds step {step}")
    if not about["files"]:
        problem = f"{path} was written without digests by an older depthtok: not checked"
        yield Finding(problem, note=True)
        return
    for name in about["files"]:
        try:
            checkpoint.sound(path, name)
        except DepthtokError as error:
            yield Finding(error.problem)
    for file in sorted(path.iterdir()):
        if file.name not in (*about["files"], STATE):
            yield Finding(f"{file} does not belong there")


def _against_newest(run: Path, newest: Path) -> Iterator[Finding]:
    """The files that there were, and the settings, as the newest checkpoint knows them."""
    for name in checkpoint.described(newest)["beside"].get("present", ()):
        if not (run / str(name)).exists():
            yield Finding(f"{run / str(name)} is missing")
    file = run / CONFIG
    if not file.is_file():
        yield Finding(f"{file} is missing")
        return
    if Config.from_json(read_json_object(file, DAMAGED)) != checkpoint.read_config(newest):
        yield Finding(f"{file} differs from the settings of {newest.name}")


def _log(run: Path, name: str) -> Iterator[Finding]:
    lines = read_log(run, name)
    for file in (run / name, sums_of(run / name)):
        if file.is_file() and file.read_bytes()[-1:] not in (b"\n", b""):
            yield Finding(f"{file} ends in the middle of a line", note=True)
    if lines and not sums_of(run / name).is_file():
        problem = f"{run / name} was written without sums by an older depthtok: not checked"
        yield Finding(problem, note=True)


def _picture(run: Path) -> Iterator[Finding]:
    if (run / PICTURE).is_file() and not DepthView.is_sealed(run):
        problem = f"{run / PICTURE} was written without a digest by an older depthtok: not checked"
        yield Finding(problem, note=True)
    DepthView.find(run)
