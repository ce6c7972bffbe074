"""Loggers besides metrics.jsonl: TensorBoard and Weights & Biases, both optional packages."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from depthtok.errors import MissingPackage
from vla.training.runlog import Line


@dataclass(frozen=True)
class Tracker:
    """One logger: call it with a line."""

    write: Callable[[Line], None]
    close: Callable[[], None]

    def __call__(self, line: Line) -> None:
        self.write(line)


class Trackers:
    """The loggers of one training. They end with it: W&B has one run a process, and the lines of
    the next training would be added to it."""

    def __init__(self) -> None:
        self._open: list[Tracker] = []

    def open(
        self, names: Sequence[str], run: Path, step: int, settings: Mapping[str, object]
    ) -> None:
        """Opens those of these names. Raises `MissingPackage`."""
        for name in names:
            self._open.append(open_tracker(name, run, step, settings))

    def __call__(self, line: Line) -> None:
        for tracker in self._open:
            tracker(line)

    def close(self) -> None:
        """Ends them."""
        while self._open:
            self._open.pop().close()


def open_tracker(name: str, run: Path, step: int, settings: Mapping[str, Any]) -> Tracker:
    """Opens `tensorboard` or `wandb`, continuing after `step`. Raises `MissingPackage`."""
    return {"tensorboard": _tensorboard, "wandb": _wandb}[name](run, step, settings)


def _tensorboard(run: Path, step: int, settings: Mapping[str, Any]) -> Tracker:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingPackage(
            "the log of tensorboard needs the package `tensorboard`",
            remedy="pip install 'depthtok[tensorboard]'",
        ) from error
    writer = SummaryWriter(run / "tensorboard", purge_step=step + 1)

    def write(line: Line) -> None:
        for name, value in line.items():
            if name != "step":
                writer.add_scalar(name, value, int(line["step"]))
        writer.flush()

    return Tracker(write, writer.close)


def _wandb(run: Path, step: int, settings: Mapping[str, Any]) -> Tracker:
    try:
        import wandb
    except ImportError as error:
        raise MissingPackage(
            "the log of wandb needs the package `wandb`", remedy="pip install 'depthtok[wandb]'"
        ) from error
    # The run id follows from the directory, so that a resumed run continues the same W&B run.
    identity = hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:16]
    tracked = wandb.init(
        project="depthtok", name=run.name, id=identity, resume="allow", dir=run, config=settings
    )

    def write(line: Line) -> None:
        tracked.log({n: v for n, v in line.items() if n != "step"}, step=int(line["step"]))

    return Tracker(write, tracked.finish)
