"""Opens and checks regular files only: a named pipe has no end, a device has no size. A file that
cannot be read now is told apart from one whose bytes are wrong."""

from __future__ import annotations

import errno
import fnmatch
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from depthtok.errors import DepthtokError, NotAFile, OutputError, SourceUnavailable, WorkerDied

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)

_TROUBLES = "EIO ESTALE ETIMEDOUT ENOTCONN EHOSTDOWN EHOSTUNREACH ENODEV ENXIO EREMOTEIO ENOMEM "
_TROUBLES += "EMFILE ENFILE EAGAIN ESHUTDOWN"
TROUBLES: tuple[int, ...] = tuple(getattr(errno, name) for name in _TROUBLES.split())
"""Error numbers of a system that fails for a while."""

GPU_FAILED = ("CUDA error", "cuDNN error", "CUBLAS_STATUS")  # what torch says of one
RECORDING = "captur"  # of a CUDA graph: what CUDA says of what cannot be recorded

NOT_NOW = (*TROUBLES, errno.EACCES, errno.EPERM)
"""What says nothing of the bytes of a file that is to be read."""

SEE_TO_IT = "see that the disk, or the share, is in order, then run the same command again"


def require_file(path: Path | str) -> None:
    """Raises `NotAFile` for what exists and is no file: to be called before opening it, which could
    wait for ever. Does nothing where nothing exists."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):  # a path with a zero byte is nobody's
        return
    require_file_mode(mode, path)


def require_no_special(path: Path | str) -> None:
    """The same where a directory may be, too."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return
    if not stat.S_ISDIR(mode):
        require_file_mode(mode, path)


def require_file_mode(mode: int, path: Path | str) -> None:
    """The same for the mode of what was opened, or looked at, already. Raises `NotAFile`."""
    for is_kind, name in _KINDS:
        if is_kind(mode):
            raise NotAFile(
                f"{path} is {name}, not a file", remedy="put the file itself there, or name it"
            )


def open_file(path: Path | str) -> int:
    """Opens a file for reading, without waiting for a pipe. Raises `NotAFile` and `OSError`."""
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        require_file_mode(os.fstat(number).st_mode, path)
    except BaseException:
        os.close(number)
        raise
    return number


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what the file system says of a file into `SourceUnavailable`."""
    try:
        yield
    except OSError as error:
        raise unavailable(path, error, "cannot be read") from error


def require_given(path: Path, error: Exception) -> None:
    """Raises `SourceUnavailable` for an error that says nothing of the file's bytes: it comes from
    the file system, for now, or from permissions."""
    if isinstance(error, OSError) and error.errno in NOT_NOW:
        raise unavailable(path, error, "cannot be read") from error


def listed(directory: Path, pattern: str) -> list[Path]:
    """What in a directory has such a name, sorted; nothing where there is no directory. Raises
    `SourceUnavailable` for one that cannot be listed, which `Path.glob` calls empty."""
    try:
        names = [path.name for path in directory.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise unavailable(directory, error, "cannot be listed") from error
    return [directory / name for name in sorted(fnmatch.filter(names, pattern))]


def unavailable(path: Path, error: OSError, what: str) -> SourceUnavailable:
    """The error for a file that the file system does not give."""
    remedy = "see that the file is there and may be read, then run the same command again: what is "
    return SourceUnavailable(
        f"{path} {what} now ({error.strerror or error})", remedy=f"{remedy}done is kept"
    )


def lacks_memory(error: BaseException) -> bool:
    """Whether an error says that there is not enough memory: torch says it in words of its own."""
    if isinstance(error, MemoryError):
        return True
    words = "can't allocate memory", "out of memory", "Cannot allocate memory"
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in words)


def gpu_failure(error: BaseException) -> WorkerDied | None:
    """What to report for what torch says of a GPU that fails, after which all that follows would;
    None for any other error, also for a lack of memory."""
    if not isinstance(error, RuntimeError) or lacks_memory(error):
        return None
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if any(words in line for words in GPU_FAILED)]
    if not said or RECORDING in said[0]:
        return None
    return WorkerDied(
        f"the GPU failed: {said[0]}",
        remedy="run the same command again: what is done is kept; if it happens again, see what "
        "the driver says (`dmesg`, `nvidia-smi`)",
    )


def of_the_system(error: Exception) -> DepthtokError | None:
    """What to report for an error of the system that is none of ours yet; None for a bug."""
    if lacks_memory(error):
        reason = next((line for line in str(error).splitlines() if line.strip()), "")
        return OutputError(
            f"there is not enough memory: {reason}" if reason else "there is not enough memory",
            remedy="give smaller settings (batch, sizes), end other programs, or run the same "
            "command where there is more: what is done is kept",
        )
    if not isinstance(error, OSError):
        return gpu_failure(error)
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    closed = (errno.EROFS, errno.EACCES, errno.EPERM)
    away = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.ELOOP)
    file = f"{error.filename}: " if error.filename else ""
    remedies = {
        **dict.fromkeys(full, "free some space and run the same command again"),
        **dict.fromkeys(closed, _closed(error)),
        **dict.fromkeys(away, "see that it is there, then run the same command again"),
        **dict.fromkeys(TROUBLES, SEE_TO_IT),
    }
    if error.errno not in remedies or isinstance(error, ConnectionError):
        return None
    return OutputError(
        f"{file}{error.strerror}", remedy=f"{remedies[error.errno]}: what is done is kept"
    )


def _closed(error: OSError) -> str:
    """What to do where something may not be read, or not be written: the error does not say which,
    but what is an output is told by its own errors, and what is there was mostly to be read."""
    path = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else None
    if error.errno != errno.EROFS and path is not None and path.exists():
        return "see that it may be read (as this user), then run the same command again"
    return "choose another place, or change its permissions"
