"""Files of Git LFS that were never fetched: a repository that was cloned without it has a few lines
of text in the place of each."""

from __future__ import annotations

from pathlib import Path

from depthtok.disk.bytes_of import local_file
from depthtok.errors import CorruptRecord

POINTER = b"version https://git-lfs"
PULL = "run `git lfs pull` in the data set's repository"


def is_pointer(path: Path) -> bool:
    """Whether such text stands in the place of the file. False for what cannot be read."""
    try:
        with local_file(path) as local, local.open("rb") as file:
            return file.read(len(POINTER)) == POINTER
    except OSError:
        return False


def require_fetched(path: Path) -> None:
    """Raises `CorruptRecord` where such text stands in the place of the file: to be called when it
    could not be read."""
    if is_pointer(path):
        raise CorruptRecord(f"{path} is a Git LFS pointer, not the file itself", remedy=PULL)
