"""Files of the cache that somebody uses: a shared lock on the file itself says so to all processes
of this machine, and goes away with the process that holds it."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path


def hold(file: Path, size: int) -> int | None:
    """Opens a file of `size` bytes and holds it, until the number that is returned is closed; None
    where it is not there whole, or is just being removed."""
    try:
        number = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    share(number)
    status = os.fstat(number)
    if status.st_nlink and status.st_size == size:
        return number
    os.close(number)
    return None


def share(number: int) -> None:
    """Holds the open file `number`; in vain on a file system that has no locks."""
    with suppress(OSError):
        fcntl.flock(number, fcntl.LOCK_SH)


def remove_unheld(path: Path) -> bool:
    """Removes a file unless somebody holds it; whether it is gone."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return not path.exists()
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    except OSError:  # no locks here: who has it open keeps its bytes
        path.unlink(missing_ok=True)
    finally:
        os.close(number)
    return True
