"""Which data set lies at a path, of those in files of another format than RLDS."""

from __future__ import annotations

from pathlib import Path

from depthtok.sources.demonstrations import Demonstrations, is_demonstrations
from depthtok.sources.files import FileDataset
from depthtok.sources.foreign import is_lerobot
from depthtok.sources.lerobot.dataset import LeRobotDirectory


def open_files(path: Path) -> FileDataset | None:
    """The LeRobot data set or the HDF5 demonstrations at `path`; None for anything else. Raises
    `SourceError` for what is one of these but is not read, and `MissingPackage`."""
    if is_lerobot(path):
        return LeRobotDirectory.open(path)
    return Demonstrations.open(path) if is_demonstrations(path) else None
