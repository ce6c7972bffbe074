"""Copies a store: parts in parallel, and last what makes a store of them.

Elsewhere that is `store.json` (`contents.py`), on a disk the root `zarr.json`. What is there
already is kept, so a copy that was interrupted goes on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from depthtok.copies.contents import Contents, Packed, texts_beside
from depthtok.copies.packed import (
    BLOCK,
    COPY_AGAIN,
    duplicate,
    object_name,
    pack,
    packed_size,
    unpack,
)
from depthtok.disk.digests import DigestMemory
from depthtok.disk.files import commit_directory, write_atomic
from depthtok.disk.locks import writing
from depthtok.errors import ConfigError, CorruptPart, OutputError, StoreError
from depthtok.log import typed
from depthtok.progress import progress
from depthtok.remote.location import Location
from depthtok.remote.stream import streaming
from depthtok.stores.arrays import group_json
from depthtok.stores.filling import drop_dead, drop_part
from depthtok.stores.parts import Part, PartName
from depthtok.stores.spec import COPY, ROOT, is_store, read_spec, require_same
from depthtok.stores.store import Store, present_parts

PARTS_AT_ONCE = 8
THERE = -1  # in place of a number of bytes: nothing was to be copied

T = TypeVar("T")


@dataclass(frozen=True)
class Copied:
    """What was copied. `missing` counts parts that the source itself lacks; `verified` those that
    were read again at the other end, with every byte as it should be."""

    source: Path
    target: Path
    parts: int
    kept: int  # of those: they were there already
    bytes: int  # of those that were not
    missing: int
    verified: int = 0


def copy_store(
    source: Path, target: Path, *, then_verify: bool = False, at_once: int = PARTS_AT_ONCE
) -> Copied:
    """Copies the store at `source` to `target`; one of them, or none, is a `Location`. Raises
    `StoreError`, `CorruptPart` and `SourceUnavailable`."""
    if isinstance(source, Location) and isinstance(target, Location):
        raise ConfigError(
            "a store is copied to or from this machine",
            remedy=f"copy {source} to a directory, and that to {target}",
        )
    if isinstance(source, Location):
        copied = _download(source, target, at_once)
    elif isinstance(target, Location):
        copied = _upload(Store(source), target, at_once)
    else:
        copied = _duplicate(Store(source), target, at_once)
    if not then_verify:
        return copied
    return replace(copied, verified=verify_copy(target, at_once))


def _upload(store: Store, url: Location, at_once: int) -> Copied:
    before = Contents.read(url)
    if before is not None:
        require_same(url, before.spec, store.spec)
    _, objects = url.below("parts").listing()
    there = {f"parts/{Path(described.name).name}": described.size for described in objects}
    packed: dict[str, Packed] = {}

    def send(part: Part) -> int:
        name, size = object_name(part), packed_size(part)
        if size is not None and there.get(name) == size:
            packed[part.name] = Packed(name, size, part.digest)
            return THERE
        with _scratch() as folder:
            file = folder / "part.zip"
            pack(part, file)
            url.below(name).write_from(file)
            packed[part.name] = Packed(name, file.stat().st_size, part.digest)
        return packed[part.name].size

    unchanged, sent = _in_parallel(send, list(store.parts()), at_once)
    shards = {PartName.of(name).shard for name in packed}
    others = before.parts if before else {}
    others = {name: p for name, p in others.items() if PartName.of(name).shard not in shards}
    parts = dict(sorted({**others, **packed}.items()))
    root = (store.path / ROOT).read_text()
    url.below(COPY).put(Contents(root, parts, texts_beside(store.path)).to_bytes())
    return Copied(store.path, url, len(packed), unchanged, sent, len(store.missing()))


def _download(url: Location, target: Path, at_once: int) -> Copied:
    contents = required(url)

    def arrival(name: str, packed: Packed) -> Arrival:
        def fill(directory: Path) -> int:
            _receive(url.below(packed.file), packed, directory)
            return packed.size

        return Arrival(name, packed.digest, fill)

    arrivals = [arrival(name, packed) for name, packed in contents.parts.items()]
    unchanged, got = _fill(target, contents, arrivals, at_once)
    return Copied(url, target, len(arrivals), unchanged, got, len(Store(target).missing()))


def _duplicate(store: Store, target: Path, at_once: int) -> Copied:
    def arrival(part: Part) -> Arrival:
        def fill(directory: Path) -> int:
            duplicate(part, directory)
            return sum(size for size, _ in part.manifest["files"].values())

        return Arrival(part.name, part.digest, fill)

    contents = Contents((store.path / ROOT).read_text(), {}, texts_beside(store.path))
    arrivals = [arrival(part) for part in store.parts()]
    unchanged, copied = _fill(target, contents, arrivals, at_once)
    return Copied(store.path, target, len(arrivals), unchanged, copied, len(store.missing()))


@dataclass(frozen=True)
class Arrival:
    """A part that is to come: its manifest's digest, and what fills a directory with it and says
    how many bytes that were."""

    name: str
    digest: str
    fill: Callable[[Path], int]


def _fill(
    target: Path, contents: Contents, arrivals: Sequence[Arrival], at_once: int
) -> tuple[int, int]:
    """Makes the parts of a store on a disk, and then its root; returns how many parts were there,
    and the bytes of the others. Raises `StaleStore` and `OutputError`."""
    with writing(target):
        _require_free(target, contents)
        drop_dead(target)
        _drop_others(target, {arrival.name for arrival in arrivals})

        def receive(arrival: Arrival) -> int:
            final = target / "parts" / arrival.name
            if final.is_dir() and Part(final, DigestMemory()).digest == arrival.digest:
                return THERE
            with commit_directory(final, replace=True) as directory:
                return arrival.fill(directory)

        counts = _in_parallel(receive, arrivals, at_once)
        for name, text in contents.files.items():
            write_atomic(target / name, text)
        write_atomic(target / ROOT, contents.root)
        # Not before: a store that has this alone is one that has lost its root.
        write_atomic(target / "parts" / ROOT, group_json({}))
    return counts


def _require_free(target: Path, contents: Contents) -> None:
    """Raises unless there is nothing at `target`, or the same store, or what is left of a copy."""
    if is_store(target):
        require_same(target, read_spec(target), contents.spec)
        return
    names = {path.name for path in target.iterdir() if not path.name.startswith(".")}
    if names - {"parts", *contents.files}:
        raise OutputError(
            f"{target} is not empty and not a depthtok store", remedy="choose another target"
        )


def _drop_others(target: Path, names: set[str]) -> None:
    """Drops parts of shards that are cut otherwise now, and all others of what has no root."""
    shards = {PartName.of(name).shard for name in names}
    for name in present_parts(target):
        if name not in names and (not is_store(target) or PartName.of(name).shard in shards):
            drop_part(target, name)


def required(url: Location) -> Contents:
    """The contents of the store at a URL. Raises `StoreError` where there is none."""
    contents = Contents.read(url)
    if contents is None:
        raise StoreError(
            f"there is no store at {url}: it has no {COPY}",
            remedy="correct the URL; a copy that was interrupted is finished by the same "
            "`depthtok copy` again",
        )
    return contents


def verify_copy(target: Path, at_once: int = PARTS_AT_ONCE) -> int:
    """Reads a copy again, every byte of it; returns the number of parts. Raises `CorruptPart` for
    the first that is not what was copied."""
    if not isinstance(target, Location):
        for part in Store(target).parts():
            if problems := part.verify():
                raise CorruptPart(
                    problems[0],
                    remedy=f"`{typed('verify', target, '--repair')}` drops the bad parts; then run "
                    "the same `depthtok copy` again",
                )
        return len(Store(target).part_names)
    contents = required(target)

    def check(packed: Packed) -> int:
        with _scratch() as folder:
            _receive(target.below(packed.file), packed, folder)
        return packed.size

    _in_parallel(check, list(contents.parts.values()), at_once)
    return len(contents.parts)


def _receive(where: Location, packed: Packed, directory: Path) -> None:
    """Fills a directory with the part of an object. Raises `CorruptPart`, `SourceUnavailable`."""
    with _scratch() as folder:
        file = folder / "part.zip"
        with streaming(where) as stream, file.open("wb") as out:
            if stream.size != packed.size:
                raise CorruptPart(
                    f"{where} has {stream.size:,} bytes, not {packed.size:,}", remedy=COPY_AGAIN
                )
            for offset in range(0, stream.size, BLOCK):
                out.write(stream.read(BLOCK, offset))
        unpack(file, directory, packed.digest, where)


@contextmanager
def _scratch() -> Iterator[Path]:
    """A directory for what is on its way (TMPDIR says where); it goes when the block ends."""
    with tempfile.TemporaryDirectory(prefix="depthtok-copy-") as folder:
        yield Path(folder)


def _in_parallel(work: Callable[[T], int], items: Sequence[T], at_once: int) -> tuple[int, int]:
    """Works on all items; returns how many were there already, and the bytes of the others. The
    first error ends it, once what has begun is done."""
    unchanged = moved = 0
    with (
        progress(total=len(items), unit="parts", label="copy") as bar,
        ThreadPoolExecutor(at_once, "depthtok-copy") as pool,
    ):
        futures = [pool.submit(work, item) for item in items]
        try:
            for future in as_completed(futures):
                size = future.result()
                unchanged, moved = unchanged + (size == THERE), moved + max(size, 0)
                bar.advance(1)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return unchanged, moved
