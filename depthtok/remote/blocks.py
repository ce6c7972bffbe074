"""Blocks of objects on the local disk, for what is read in any order: frames of a shard.

    CACHE/blocks/<digest of URL and etag>-<block size>/<number>

A block is written whole or not at all, and names what it is of, so any number of processes share
the folder, with the files of `whole.py`. Once all exceed the limit, those that were used least
recently are removed.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from filelock import FileLock, Timeout

from depthtok.disk.temporaries import TEMPORARY, temporary_sibling
from depthtok.errors import OutputError
from depthtok.remote.holds import remove_unheld
from depthtok.remote.limits import Limits
from depthtok.remote.location import Location

TOUCH_S = 60.0  # a block that was used this short a time ago is not marked as used again
SHARE = 32  # a process looks at the size of all blocks after writing this part of the limit
KEPT = 0.9  # of the limit, where something is removed
ROOM_S = 20.0  # how long room for a file is waited for, while another process makes some


class BlockCache:
    """The blocks of all objects in one folder. Threads may share it."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder, self.limits = folder, limits
        self._pool = ThreadPoolExecutor(limits.block_readers, "depthtok-blocks")
        self._coming: dict[tuple[str, int], Future[bytes]] = {}
        self._lock = threading.Lock()
        self._written = 0

    def read(self, shard: BlockedFile, start: int, stop: int) -> bytes:
        """Bytes of an object, by its blocks: those that are absent are fetched at the same time."""
        numbers = _blocks(start, stop, shard.block)
        coming = {number: self._begun(shard, number) for number in numbers[1:]}
        pieces: list[bytes] = []
        for number in numbers:
            first = number * shard.block
            piece = self._from_disk(shard, number, max(start - first, 0), stop - first)
            if piece is None:
                future = coming.get(number) or self._begun(shard, number)
                block = future.result() if future else self._fetch(shard, number)
                piece = block[max(start - first, 0) : stop - first]
            pieces.append(piece)
        return b"".join(pieces)

    def expect(self, shard: BlockedFile, spans: Sequence[tuple[int, int]]) -> None:
        """Begins to fetch the blocks of what will be read soon: pairs of start and stop."""
        blocks = {n for start, stop in spans for n in _blocks(start, stop, shard.block)}
        for number in sorted(blocks):
            self._begun(shard, number)

    def forget(self, shard: BlockedFile, start: int, stop: int) -> None:
        """Removes the blocks of some bytes, which were found to be damaged."""
        for number in _blocks(start, stop, shard.block):
            (shard.folder / str(number)).unlink(missing_ok=True)

    def _begun(self, shard: BlockedFile, number: int) -> Future[bytes] | None:
        """The fetching of a block, begun by whoever was first; None where the disk has it."""
        if (shard.folder / str(number)).exists():
            return None
        key = (str(shard.folder), number)
        with self._lock:
            future = self._coming.get(key)
            if future is None:
                future = self._coming[key] = self._pool.submit(self._fetch, shard, number)
                # Called at once, here, where the block has come already.
                future.add_done_callback(lambda _: self._coming.pop(key, None))
            return future

    def _from_disk(self, shard: BlockedFile, number: int, start: int, stop: int) -> bytes | None:
        """Some bytes of a block; None where it is not there whole."""
        path, size = shard.folder / str(number), shard.size_of(number)
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_size != size:
                    return None
                if time.time() - status.st_mtime > TOUCH_S:
                    os.utime(path)
                return os.pread(file.fileno(), min(stop, size) - start, start)
        except OSError:
            return None

    def _fetch(self, shard: BlockedFile, number: int) -> bytes:
        """A block from the server; it is kept, where the disk takes it."""
        start = number * shard.block
        stop = start + shard.size_of(number)
        data = shard.location.read_range(start, stop, shard.etag)
        with suppress(OSError, OutputError):  # a full disk costs speed, and nothing else
            shard.folder.mkdir(parents=True, exist_ok=True)
            temporary = temporary_sibling(shard.folder / str(number))
            try:
                temporary.write_bytes(data)
                temporary.replace(shard.folder / str(number))
            finally:
                temporary.unlink(missing_ok=True)
            self._count(len(data))
        return data

    def _count(self, size: int) -> None:
        with self._lock:
            self._written += size
            due = self._written >= self.limits.cache_bytes / SHARE
            self._written = 0 if due else self._written
        if due:
            with suppress(Timeout), FileLock(self.folder / ".lock", timeout=0):
                self.shrink()

    def make_room(self, size: int) -> None:
        """Removes what was used least recently, so that `size` bytes more keep the limit."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with suppress(Timeout), FileLock(self.folder / ".lock", timeout=ROOM_S):
            self.shrink(size)

    def shrink(self, coming: int = 0) -> int:
        """Removes the blocks and files that were used least recently, and that nobody holds, until
        the limit is kept with the bytes that are `coming`; how many."""
        blocks = sorted(self._present())
        total, removed = coming + sum(size for _, size, _ in blocks), 0
        if total <= self.limits.cache_bytes:
            return 0
        for _, size, path in blocks:
            if total <= KEPT * self.limits.cache_bytes:
                break
            if remove_unheld(Path(path)):
                total, removed = total - size, removed + 1
        return removed

    def _present(self) -> Iterator[tuple[float, int, str]]:
        """When each block was used, its bytes and its path; blocks that are being written too."""
        with os.scandir(self.folder) as folders:
            for folder in [entry for entry in folders if entry.is_dir()]:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        with suppress(FileNotFoundError):
                            status = entry.stat()
                            fresh = time.time() - status.st_mtime < TOUCH_S
                            if not (entry.name.startswith(TEMPORARY) and fresh):
                                yield status.st_mtime, status.st_size, entry.path


def _blocks(start: int, stop: int, block: int) -> range:
    return range(start // block, -(-stop // block))


class BlockedFile:
    """An object as it was when it was first asked for: once its etag is another one, `Changed`."""

    def __init__(self, location: Location, cache: BlockCache) -> None:
        described = location.describe()
        self.location, self.size, self.etag = location, described.size, described.etag
        self.cache, self.block = cache, cache.limits.block_bytes
        identity = f"{location}\n{self.etag}\n{self.size}\n{described.modified_ns}"
        digest = hashlib.sha256(identity.encode()).hexdigest()[:32]
        self.folder = cache.folder / f"{digest}-{self.block}"

    @classmethod
    def of(cls, location: Location) -> BlockedFile:
        """The object by the cache of this process. Raises `SourceUnavailable`."""
        return cls(location, block_cache(location.limits))

    def size_of(self, number: int) -> int:
        """Bytes of one block: the last is shorter."""
        return max(0, min(self.block, self.size - number * self.block))

    def read(self, offset: int, length: int) -> bytes:
        """The bytes at `offset`; fewer where the object ends. Raises `SourceUnavailable`."""
        return self.cache.read(self, offset, min(offset + length, self.size))

    def expect(self, spans: Sequence[tuple[int, int]]) -> None:
        """Begins to fetch what will be read soon: offsets and lengths."""
        ends = [(start, min(start + length, self.size)) for start, length in spans]
        self.cache.expect(self, ends)

    def forget(self, offset: int, length: int) -> None:
        """Drops the blocks of some bytes from the disk."""
        self.cache.forget(self, offset, min(offset + length, self.size))


@lru_cache(4)
def block_cache(limits: Limits) -> BlockCache:
    """The cache of this process with these limits."""
    return BlockCache(limits.cache_folder / "blocks", limits)
