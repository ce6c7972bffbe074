"""What lies in the place of a file may be none: a named pipe has no end, a device has no size."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from depthtok.errors import NotAFile

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def require_file(path: Path | str) -> None:
    """Raises `NotAFile` for what is there and is no file: to be called before it is opened, which
    could wait for ever. Nothing is said of a path where nothing is: who opens it will."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):  # a path with a zero byte is nobody's
        return
    require_file_mode(mode, path)


def require_no_special(path: Path | str) -> None:
    """The same where a directory may be, too."""
    if not Path(path).is_dir():
        require_file(path)


def require_file_mode(mode: int, path: Path | str) -> None:
    """The same for the mode of what was opened, or looked at, already."""
    for is_kind, name in _KINDS:
        if is_kind(mode):
            raise NotAFile(
                f"{path} is {name}, not a file", remedy="put the file itself there, or name it"
            )


def open_file(path: Path | str) -> int:
    """A descriptor of a file, for reading. Raises `NotAFile`, and whatever `os.open` does; it never
    waits for a writer of a pipe."""
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        require_file_mode(os.fstat(number).st_mode, path)
    except BaseException:
        os.close(number)
        raise
    return number
