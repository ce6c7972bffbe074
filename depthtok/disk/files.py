"""How bytes reach the disk: whole or not at all.

Everything that must survive a kill is written to a temporary sibling, flushed to the disk, and
renamed. Only POSIX file systems are written like that; `depthtok copy` takes stores to buckets.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from depthtok.disk.regular import SEE_TO_IT, TROUBLES
from depthtok.disk.temporaries import discard, temporary_sibling
from depthtok.errors import OutputError
from depthtok.remote.location import is_remote, located
from depthtok.signals import uninterrupted

_SAFE = re.compile(r"[a-z0-9][a-z0-9_-]{0,60}")
_HASHED = re.compile(r".*-[0-9a-f]{16}")
_DEVICE = re.compile(r"con|prn|aux|nul|com\d|lpt\d")  # no file can have these names on Windows


def slug(name: str) -> str:
    """`name` as a file name: itself where that is safe, else what is readable of it and a hash.

    Different names give different slugs, on file systems that fold case or Unicode forms too. A
    slug holds no dot, so it is never a file of ours such as `zarr.json`.
    """
    if _SAFE.fullmatch(name) and not _HASHED.fullmatch(name) and not _DEVICE.fullmatch(name):
        return name
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    readable = re.sub(r"[^a-z0-9_]+", "-", plain).strip("-")[:40] or "name"
    return f"{readable}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Raises `OutputError` for what the file system says while `path` is written."""
    try:
        yield
    except OSError as error:
        problem = f"cannot write {path}: {error.strerror or error}"
        remedies = {
            errno.ENOSPC: "free some space (`depthtok doctor` shows it) and run the command again: "
            "finished parts are kept",
            errno.EDQUOT: "your quota is used up; free some space and run the command again",
            errno.EFBIG: "the file is larger than the file system or `ulimit -f` allows; choose "
            "another --out or raise the limit, and run the command again: finished parts are kept",
            errno.ENAMETOOLONG: "that path is too long; choose a shorter --out",
            errno.EROFS: "the file system is read-only; choose another --out",
            errno.EACCES: "you may not write there; choose another --out or change its permissions",
            errno.EPERM: "you may not write there; choose another --out or change its permissions",
            errno.ENOTDIR: "a part of that path is a file; choose another --out",
            errno.EEXIST: "a file is in the way; choose another --out",
            errno.ENOENT: "something there was removed while the command ran; run it again",
            **dict.fromkeys(TROUBLES, f"{SEE_TO_IT}: finished parts are kept"),
        }
        if error.errno not in remedies:
            raise
        raise OutputError(problem, remedy=remedies[error.errno]) from error


@contextmanager
def commit_file(final: Path) -> Iterator[Path]:
    """A path to write a file at, which becomes `final` when the block ends without an error.

    For files that something else writes, or that are long; `write_atomic` is for data at hand.
    """
    with output_errors(final):
        make_directory(final.parent)
        temporary = temporary_sibling(final)
        try:
            yield temporary
            with uninterrupted():
                sync_file(temporary)
                temporary.replace(final)
                sync_directory(final.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes | str) -> None:
    """Replaces the file `path` by `data`, whole or not at all."""
    with _temporary_copy(path, data) as temporary:
        temporary.replace(path)


def write_new(path: Path, data: bytes | str) -> bool:
    """Makes the file `path` of `data`, unless there is one; returns whether it did.

    Of several processes that race, exactly one makes it.
    """
    with _temporary_copy(path, data) as temporary:
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            if path.exists():  # without hard links only the last of those that race is kept
                return False
            temporary.replace(path)
    return True


@contextmanager
def _temporary_copy(path: Path, data: bytes | str) -> Iterator[Path]:
    """`data` in a temporary sibling of `path`, on the disk; it goes away when the block ends."""
    with output_errors(path), uninterrupted():
        make_directory(path.parent)
        temporary = temporary_sibling(path)
        try:
            with temporary.open("wb") as file:
                file.write(data.encode() if isinstance(data, str) else data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)
        sync_directory(path.parent)


def with_usual_mode(path: Path) -> None:
    """Gives a file the usual mode (umask, default ACL): some libraries restrict theirs."""
    sample = temporary_sibling(path)
    sample.touch()
    try:
        with suppress(PermissionError):  # of a file system without modes
            path.chmod(stat.S_IMODE(sample.stat().st_mode))
    finally:
        sample.unlink()


@contextmanager
def commit_directory(final: Path, *, replace: bool = False) -> Iterator[Path]:
    """A fresh directory to fill, which becomes `final` when the block ends without an error.

    Of two that race for one `final`, the first wins and the other's copy is dropped. With `replace`
    what is there already gives way.
    """
    with output_errors(final):
        make_directory(final.parent)
        temporary = temporary_sibling(final)
        try:
            temporary.mkdir()
            yield temporary
            sync_tree(temporary)
            with uninterrupted():
                old = _put_away(final) if replace else None
                _rename(temporary, final)
                if old:
                    discard(old)
        finally:
            with uninterrupted():
                shutil.rmtree(temporary, ignore_errors=True)


def _rename(temporary: Path, final: Path) -> None:
    """Puts a directory in its place, unless one is there already."""
    try:
        temporary.rename(final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    sync_directory(final.parent)


def _remove(path: Path) -> bool:
    """Removes a file or directory, so that nobody sees half of it. Whether it was there."""
    away = _put_away(path)
    if away:
        discard(away)
    return away is not None


def _put_away(path: Path) -> Path | None:
    """Gives a file or directory a temporary name, which it returns; None where nothing is there."""
    away = temporary_sibling(path)
    try:
        path.rename(away)
    except FileNotFoundError:
        return None
    return away


def remove(path: Path) -> None:
    """Removes a file or committed directory, if it is there; readers see all of it or nothing."""
    with output_errors(path), uninterrupted():
        if _remove(path):
            sync_directory(path.parent)


def exchange(new: Path, final: Path) -> None:
    """Gives the directory `new` the place of `final`, whose own content is then at `new`.

    Between the two renames there is nothing at `final`; both directories are whole at any time.
    """
    with output_errors(final), uninterrupted():
        old = _put_away(final)
        new.rename(final)
        if old:
            old.rename(new)
        sync_directory(final.parent)


def make_directory(path: Path) -> None:
    """Makes a directory and its parents, so that they last over a power cut. Raises `OutputError`
    for one that is elsewhere, or that cannot be made."""
    if is_remote(path):
        raise OutputError(
            f"nothing is written to {located(path)} as it is made",
            remedy="choose a directory of this machine, then `depthtok copy STORE URL`",
        )
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:  # in /proc, or below a folder that was deleted
        raise OutputError(
            f"cannot make the directory {path}", remedy="choose another --out"
        ) from error
    for folder in missing:
        sync_directory(folder.parent)


def require_writable(directory: Path) -> None:
    """Raises `OutputError` where no file can be written into a directory, which need not be there
    yet: to be called before work of minutes whose result is written at the end."""
    missing = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    with output_errors(directory):
        make_directory(directory)
        sample = temporary_sibling(directory / "sample")
        try:
            sample.write_bytes(bytes(4096))  # a full disk may still give names
        finally:
            sample.unlink(missing_ok=True)
            with suppress(OSError):  # another process may have begun to write there
                for folder in missing:
                    folder.rmdir()


def sync_file(path: Path) -> None:
    """Makes the bytes of a file last over a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_directory(path: Path) -> None:
    """Makes the names in a directory last over a power cut."""
    sync_file(path)


def sync_tree(path: Path) -> None:
    """Makes a directory and all below it last over a power cut."""
    for folder, _, names in os.walk(path):
        for name in names:
            sync_file(Path(folder) / name)
        sync_directory(Path(folder))
