"""Objects as whole files on the local disk, for what opens files by their names: parquet, video,
HDF5.

    CACHE/blocks/<digest of URL and etag>-whole/{file,sha256}

lie beside the blocks and under their limit. A file comes once, by one stream, whole or not at all;
other processes wait for it. Whoever has it open holds it (`holds.py`), so that it is not removed to
make room: what is held may exceed the limit, nothing else does.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path

from filelock import FileLock

from depthtok.disk.files import commit_file, output_errors, write_atomic
from depthtok.remote.blocks import TOUCH_S, BlockCache, block_cache
from depthtok.remote.errors import Changed, changed
from depthtok.remote.holds import hold, share
from depthtok.remote.location import Location
from depthtok.remote.objects import Described
from depthtok.remote.recorded import RecordedLocation, is_strong
from depthtok.remote.stream import streaming

DIGEST = "sha256"  # of the file as it came


@contextmanager
def whole_file(location: Location) -> Iterator[Path]:
    """The path of the object's bytes on this machine, which stay there while the block runs. Of a
    `RecordedLocation` they are those that were recorded.

    Raises `SourceUnavailable`: `Changed` where the object is another one; and `OutputError` where
    the disk of the cache does not take it.
    """
    if location.scheme == "file":
        yield Path("/", location.key)
        return
    number, file = _held(location)
    try:
        yield file
    finally:
        os.close(number)


@contextmanager
def holding(paths: Sequence[Path]) -> Iterator[tuple[Path, ...]]:
    """The paths, fixed to what lies there now: all that is read of them in the block is of the same
    objects, which come once; copies that are there already are verified. Paths on a disk are given
    as they are. Raises `SourceUnavailable`."""
    with ExitStack() as held:
        yield tuple(_fixed(path, held) for path in paths)


def _fixed(path: Path, held: ExitStack) -> Path:
    if not isinstance(path, Location) or path.scheme == "file":
        return path
    described = path.describe()
    recorded = RecordedLocation.of(path, described.size, described.etag)
    file = held.enter_context(whole_file(recorded))
    sha256 = _sha256_of(file)
    if sha256 != _as_it_came(file):
        file.unlink(missing_ok=True)
        sha256 = _sha256_of(held.enter_context(whole_file(recorded)))
    return RecordedLocation.of(path, described.size, described.etag, sha256)


def _held(location: Location, *, anew: bool = False) -> tuple[int, Path]:
    """The number and the path of the file that is held. A copy that was damaged is fetched once
    more; `anew`: it was."""
    cache = block_cache(location.limits)
    if isinstance(location, RecordedLocation) and location.has_strong_etag:
        file = _place(cache, location, Described("", location.size, location.etag, 0))
        if (number := hold(file, location.size)) is not None:
            _touch(file)
            return number, file
    described = location.describe()
    if isinstance(location, RecordedLocation) and described.size != location.size:
        raise _changed_since(location, f"{described.size:,} bytes, not {location.size:,}")
    file = _place(cache, location, described)
    with ExitStack() as opened:
        number = _held_or_fetched(cache, location, described, file)
        opened.callback(os.close, number)
        reason = _differs(location, described, file)
        if not reason:
            opened.pop_all()
            return number, file
        if anew or _sha256_of(file) == _as_it_came(file):
            raise _changed_since(location, reason)
    file.unlink(missing_ok=True)
    return _held(location, anew=True)


def _held_or_fetched(
    cache: BlockCache, location: Location, described: Described, file: Path
) -> int:
    while True:
        if (number := hold(file, described.size)) is not None:
            _touch(file)
            return number
        with output_errors(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(file.with_name(".lock")):
                if (number := hold(file, described.size)) is None:
                    _fetch(cache, location, described, file)
                else:
                    os.close(number)


def _fetch(cache: BlockCache, location: Location, described: Described, file: Path) -> None:
    """Streams an object into the cache. Raises `Changed` where it is not the one described."""
    cache.make_room(described.size)
    step, sha256 = location.limits.stream_bytes, hashlib.sha256()
    with (
        streaming(Location(str(location))) as stream,
        commit_file(file) as temporary,
        temporary.open("wb") as out,
    ):
        share(out.fileno())
        if (stream.size, stream.etag) != (described.size, described.etag):
            raise changed(location)
        for start in range(0, stream.size, step):
            data = stream.read(step, start)
            sha256.update(data)
            out.write(data)
        write_atomic(file.with_name(DIGEST), sha256.hexdigest())


def _differs(location: Location, described: Described, file: Path) -> str:
    """How a copy differs from the object that was recorded, "" where it does not; its bytes tell
    where its etag does not. Raises `Changed` where they are not known."""
    if not isinstance(location, RecordedLocation):
        return ""
    if location.has_strong_etag and described.etag == location.etag:
        return ""
    if location.sha256:  # a digest that was computed before may be that of a damaged copy
        same = location.sha256 == _sha256(file) or location.sha256 == _sha256_of(file)
        return "" if same else "other bytes"
    if location.etag not in ("", described.etag):
        raise changed(location)
    return ""


def drop_damaged(location: RecordedLocation) -> bool:
    """Removes the copy of an object from the cache if it has other bytes than the object had;
    whether it did. Raises `SourceUnavailable`."""
    if not location.sha256:
        return False
    with whole_file(location) as file:
        damaged = _sha256_of(file) != location.sha256
        if damaged:
            file.unlink(missing_ok=True)
    return damaged


@lru_cache(1024)
def _sha256(file: Path) -> str:
    """Of a file of the cache, as it came: its name stands for its bytes."""
    return _sha256_of(file)


def _as_it_came(file: Path) -> str:
    """The digest that a file of the cache had; "" where that is not there."""
    try:
        return file.with_name(DIGEST).read_text()
    except FileNotFoundError:
        return ""


def _sha256_of(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _changed_since(location: Location, reason: str) -> Changed:
    return Changed(
        f"{location} changed since it was indexed ({reason})",
        remedy="restore it, or run `depthtok convert` again: it makes the parts of changed files "
        "anew",
    )


def _place(cache: BlockCache, location: Location, described: Described) -> Path:
    """Where the file lies in the cache."""
    when = "" if is_strong(described.etag) else str(described.modified_ns)
    identity = f"{location}\n{described.etag}\n{described.size}\n{when}"
    digest = hashlib.sha256(identity.encode()).hexdigest()[:32]
    return cache.folder / f"{digest}-whole" / "file"


def _touch(file: Path) -> None:
    if time.time() - file.stat().st_mtime > TOUCH_S:
        os.utime(file)
