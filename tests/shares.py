"""A share that fails while it is read."""

import os
from pathlib import Path


def fails_from_now_on(file: Path) -> None:
    """Every read of a file that this process has open is an error of the disk; opened anew, it is
    whole."""
    with Path("/proc/self/mem").open("rb") as memory:  # whose first bytes nobody may read
        for entry in Path("/proc/self/fd").iterdir():
            if entry.is_symlink() and entry.readlink() == file:
                os.dup2(memory.fileno(), int(entry.name))
