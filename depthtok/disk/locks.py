"""One output, one writer: a lock on a run's directory, held as long as somebody writes there.

    RUN/.lock           of a directory
    .NAME.lock          beside an output that is a file, or that appears when it is done

It is a lock of the kernel (`flock`, by the package filelock), which dies with the process that
holds it, however that ends. The text in the file says who holds it, for the message alone: whether
somebody does, only the kernel knows. The file stays, empty, but where nothing else was written.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from depthtok.disk.files import make_directory, output_errors
from depthtok.disk.temporaries import host_name
from depthtok.errors import InUse
from depthtok.log import warn

LOCK = ".lock"
PATIENCE_S = 3.0  # how long one who was killed a moment ago may take to be gone
WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


@contextmanager
def writing(out: Path, *, file: bool = False) -> Iterator[None]:
    """Makes this process the only writer of the directory `out` (made if needed), or of what is to
    be one `file` or a directory that is not there yet, until the block ends.

    A process that holds the lock may take it again. Raises `InUse` where another process writes
    there, on this host or any that shares the file system. Where the file system has no locks,
    that is said, and the block runs.
    """
    out = Path(out)
    fresh = not file and not out.exists()
    with _locked(out.parent / f".{out.name}.lock" if file else out / LOCK, out):
        try:
            yield
        except BaseException:
            if fresh:
                _remove_if_only_locked(out)
            raise


def _remove_if_only_locked(out: Path) -> None:
    """Removes a directory that holds nothing but its lock. The lock is held: a process that waits
    for it sees that the file has no name any more, and makes another."""
    with suppress(OSError):
        if {path.name for path in out.iterdir()} == {LOCK}:
            (out / LOCK).unlink()
            out.rmdir()


@contextmanager
def writing_shard(out: Path, shard: str | None) -> Iterator[None]:
    """The same for a directory that several jobs fill, each with its own `shard` ("2/4", None: all
    of it): a second writer of the same shard is refused, and one of all beside any shard."""
    out = Path(out)
    with ExitStack() as stack:
        if shard is None:
            stack.enter_context(writing(out))
            for path in sorted(out.glob(f"{LOCK}-*")):
                stack.enter_context(_locked(path, out))
        else:
            with writing(out):  # shards enter one by one, and never beside a writer of all
                name = f"{LOCK}-{shard.replace('/', '-of-')}"
                stack.enter_context(_locked(out / name, out))
        yield


@contextmanager
def _locked(path: Path, out: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    with output_errors(out):
        make_directory(path.parent)
    # A singleton of the path counts how often this process holds it. No soft locks: those are files
    # that outlive a killed holder.
    lock = FileLock(
        path, timeout=PATIENCE_S, thread_local=False, is_singleton=True, fallback_to_soft=False
    )
    already_held = lock.is_locked
    try:
        with output_errors(out):
            lock.acquire(poll_interval=0.05)
    except Timeout:
        raise _in_use(out, path) from None
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        warn(f"{out}: this file system has no locks: make sure that nothing else writes there")
        yield
        return
    try:
        if not already_held:
            _write_holder(path, out)
        yield
    finally:
        if not already_held:
            with suppress(OSError):
                os.truncate(path, 0)
        lock.release()


def _write_holder(path: Path, out: Path) -> None:
    """Writes who holds the lock. Warns where a holder on another host has left its name: locks of
    some file systems do not reach other hosts."""
    former = _holder(path).get("host", "")
    if former not in ("", host_name()):
        warn(
            f"{out}: a job on {former} wrote there and did not end by itself. If it still runs, "
            "stop one of the two: this file system's locks may not reach other hosts"
        )
    holder = {
        "host": host_name(),
        "pid": os.getpid(),
        "command": " ".join(sys.argv)[:500],
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with suppress(OSError):  # a full disk: the lock holds without its text
        path.write_text(json.dumps(holder) + "\n")


def _holder(path: Path) -> dict[str, Any]:
    """What the last holder wrote; empty where it ended by itself or is just beginning."""
    try:
        holder = json.loads(path.read_text(errors="replace")) if path.is_file() else {}
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _in_use(out: Path, path: Path) -> InUse:
    holder, who = _holder(path), "another process"
    if holder:
        who = "process {pid} on {host} (`{command}`, since {since})".format(
            **{name: holder.get(name, "?") for name in ("pid", "host", "command", "since")}
        )
    return InUse(
        f"{out} is being written by {who}",
        remedy="wait until that ends, or stop it; or choose another --out",
    )
