"""Checks that a store, codebook or RLDS directory is what was written: everything is re-hashed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from depthtok.disk.files import remove
from depthtok.disk.regular import reading
from depthtok.disk.temporaries import TEMPORARY, is_being_written, is_of_another_host
from depthtok.errors import (
    CorruptPart,
    CorruptRecord,
    DepthtokError,
    NotAFile,
    SourceError,
    SourceUnavailable,
    StoreError,
)
from depthtok.sources.rlds import RldsDirectory
from depthtok.sources.shards import Shard
from depthtok.stores.episodes import STATISTICS, EpisodeStore
from depthtok.stores.filling import drop_part, drop_temporaries, parts_root_is_sound
from depthtok.stores.frame_files import differs
from depthtok.stores.lineage import is_stale, open_store, outdated, upstream_of
from depthtok.stores.origin import MADE_FROM, shard_differs
from depthtok.stores.parts import Part, PartName
from depthtok.stores.spec import ROOT
from depthtok.stores.store import Store, present_parts


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be: of a part, of a file beside the parts, or neither.

    Parts and files are what `repair` drops; the next run makes again what belongs there. A `note`
    is worth saying, but nothing is wrong with what lies there. `lacks` names a part that is not
    there, and was not made yet or is lost.
    """

    problem: str
    part: str = ""
    file: str = ""  # or directory, relative to the store
    note: bool = False
    lacks: str = ""

    @property
    def can_be_dropped(self) -> bool:
        """Whether `repair` mends it."""
        return bool(self.part or self.file)


def verify_store(
    path: Path, *, images: bool = False, source_root: Path | None = None
) -> Iterator[Finding]:
    """Findings of a store: damaged, missing and foreign files, counts that differ from upstream.

    With `images`, every image that an EpisodeStore indexes is read and its CRC32C checked.
    """
    store = open_store(path, source_root)
    for name in store.part_names:
        yield from _verify_part(store, name)
    for name in store.missing():
        yield Finding(f"{path} lacks part {name}", lacks=name)
    yield from _foreign_entries(path)
    yield from _against_upstream(store)
    if isinstance(store, EpisodeStore):
        yield from _statistics(store)
        if images:
            yield from _images(store)


def _verify_part(store: Store, name: str) -> Iterator[Finding]:
    try:
        with reading(store.path / "parts" / name):
            problems = store.part(name).verify()
        yield from (Finding(problem, name) for problem in problems)
    except NotAFile as error:
        yield Finding(error.problem, name)
    except SourceUnavailable as error:  # nothing is known of the part: it is not to be dropped
        yield Finding(error.problem)
    except DepthtokError as error:
        yield Finding(error.problem, name)


def _foreign_entries(path: Path) -> Iterator[Finding]:
    """What lies in a store and is not of it."""
    expected = {*present_parts(path), ROOT}
    if not parts_root_is_sound(path):
        name = f"parts/{ROOT}"
        yield Finding(f"{path / name} is missing or damaged", file=name)
    for entry in sorted((path / "parts").iterdir()) if (path / "parts").is_dir() else ():
        if entry.name not in expected:
            if is_being_written(entry):
                yield Finding(f"{entry} is being written by a job that runs now", note=True)
            elif entry.name.startswith(TEMPORARY):
                origin = "is what an interrupted run left"
                if is_of_another_host(entry):
                    origin = "was left, or is being written, by another host"
                yield Finding(f"{entry} {origin}", file=f"parts/{entry.name}")
            else:
                yield Finding(f"{entry} does not belong there")


def _readable_parts(store: Store) -> Iterator[Part]:
    """The parts whose manifests can be read."""
    for name in store.part_names:
        try:
            yield store.part(name)
        except DepthtokError:
            continue


def _against_upstream(store: Store) -> Iterator[Finding]:
    """Every episode of the source must be there, or be recorded as failed."""
    if isinstance(store, EpisodeStore):
        if store.spec.stage == "convert":  # one of videos or images holds all of its frames
            sources = _against_files(store) if "format" in store.about else _against_rlds(store)
            yield from sources
        return
    key = upstream_of(store.spec)
    if key is None:  # a recording is made from a simulator, not from a store
        return
    if key not in store.spec.place:
        problem = f"{store.path} came from elsewhere: what it was made from is not here"
        yield Finding(problem, note=True)
        return
    path = store.source(key)
    if not path.is_dir():
        problem = f"{path}, which {store.path} was made from, is not there to compare with"
        yield Finding(problem, note=True)
        return
    try:
        source = open_store(path)
    except DepthtokError as error:
        yield Finding(f"upstream: {error.problem}")
        return
    if source.fingerprint != store.spec.upstream:
        yield Finding(f"{path} is not the store that {store.path} was made from any more")
        return
    yield from _against_parts(store, source)
    try:
        yield from (Finding(f"upstream: {line}") for line in outdated(source))
    except DepthtokError as error:
        yield Finding(f"upstream: {error.problem}")


def _against_parts(store: Store, origin: Store) -> Iterator[Finding]:
    sources = list(_readable_parts(origin))
    exact = {part.name: part for part in sources}
    by_shard = {PartName.of(part.name).shard: part for part in sources}
    accounted: dict[str, set[int]] = {}
    unread = {*store.part_names}  # in the end those that cannot be read, which are named already
    for part in _readable_parts(store):
        unread.remove(part.name)
        source = exact.get(part.name) or by_shard.get(PartName.of(part.name).shard)
        if source is None:
            yield Finding(f"{part.path}: its source has no such part", part.name)
            continue
        if is_stale(part, source, origin):
            yield Finding(f"{part.path} was made from an earlier version of its source", part.name)
        frames = dict(zip(source.indices.tolist(), source.frames.tolist(), strict=True))
        failed = {failure.key.index for failure in part.failures}
        if repeated := accounted.get(source.name, set()) & {*part.indices.tolist()}:
            problem = f"{part.path} holds episodes {sorted(repeated)} of another part"
            yield Finding(problem, part.name)
        accounted.setdefault(source.name, set()).update(part.indices.tolist(), failed)
        for index, count in zip(part.indices.tolist(), part.frames.tolist(), strict=True):
            if (expected := frames.get(index, "none")) != count:
                problem = f"episode {index} has {count} frames, its source {expected}"
                yield Finding(f"{part.path}: {problem}", part.name)
    missing = [*store.missing(), *unread]  # shards, or pieces of them
    for source in sources:
        lost = set(source.indices.tolist()) - accounted.get(source.name, set())
        shard = PartName.of(source.name).shard
        if lost and not any(name == shard or name.startswith(f"{shard}.") for name in missing):
            yield Finding(f"{store.path}: episodes {sorted(lost)} of {source.name} are nowhere")


def _against_rlds(store: EpisodeStore) -> Iterator[Finding]:
    try:
        rlds = RldsDirectory.open(store.source_root)
    except SourceError as error:
        problem = f"the data set is not there to compare with: {error.problem}"
        yield Finding(f"{problem}; --source-root says where it lies now")
        return
    for part in _readable_parts(store):
        split, key = rlds.splits.get(part.shard.split), part.shard
        same = (rlds.name, rlds.version) == (key.dataset, key.version)
        if not same or split is None or len(split.shards) != key.shards:
            yield Finding(f"{rlds.path} is not the data set that {store.path} was made from")
            return
        yield from _against_shard(part, split.shards[key.shard], rlds.path)
    unknown = sum(MADE_FROM not in part.meta for part in _readable_parts(store))
    if unknown:
        problem = f"{unknown} parts were made by an earlier depthtok, and do not say what their "
        yield Finding(f"{problem}shards were: whether those changed is not known", note=True)


def _against_files(store: EpisodeStore) -> Iterator[Finding]:
    for part in _readable_parts(store):
        try:
            problem = differs(part, store.source_root)
        except SourceUnavailable as error:
            packed = part.meta["source"] is None
            yield Finding(f"{part.path}: {error.problem}", note=packed)
            continue
        if problem:
            yield Finding(f"{problem}: `depthtok convert` makes the part anew", part.name)
            continue
        yield from _unaccounted(part, part.meta[MADE_FROM]["episodes"])


def _unaccounted(part: Part, episodes: int) -> Iterator[Finding]:
    counted = len(part.frames) + len({failure.key.index for failure in part.failures})
    counted += sum(map(len, part.meta.get("left_out", {}).values()))
    if counted < episodes:
        yield Finding(f"{part.path} accounts for {counted} of {episodes} episodes", part.name)


def _against_shard(part: Part, shard: Shard, root: Path) -> Iterator[Finding]:
    try:
        differs = shard_differs(part.meta, shard, root)
    except SourceUnavailable as error:
        packed = part.meta["source"] is None  # it needs its shard no more
        yield Finding(f"{part.path}: {error.problem}", note=packed)
        return
    if differs:
        problem = f"{shard.path} changed since it was converted ({differs})"
        yield Finding(f"{problem}: `depthtok convert` makes the part anew", part.name)
        return
    yield from _unaccounted(part, shard.episodes)


def _statistics(store: EpisodeStore) -> Iterator[Finding]:
    if len(list(_readable_parts(store))) < len(store.part_names):
        return  # of parts that are damaged, and named already
    try:
        stored = store.stored_statistics()
    except DepthtokError as error:
        yield Finding(error.problem, file=STATISTICS)
        return
    try:
        if stored is not None and stored != store.compute_statistics():
            yield Finding(f"{store.path / STATISTICS} differs from the data", file=STATISTICS)
        if stored is None and store.action_dim and not store.missing():
            problem = f"{store.path / STATISTICS} is missing or of other parts"
            file = STATISTICS if (store.path / STATISTICS).is_file() else ""
            yield Finding(f"{problem}: `depthtok convert` makes it anew", file=file)
    except CorruptPart:
        return  # a part is damaged, and named already


def _images(store: EpisodeStore) -> Iterator[Finding]:
    for part in _readable_parts(store):
        yield from _images_of(store, part)


def _images_of(store: EpisodeStore, part: Part) -> Iterator[Finding]:
    try:
        for view in range(len(store.views)):
            yield from (Finding(error.problem) for error in store.check_frames(part, view))
    except SourceUnavailable:
        return  # its shard is named already


def verify_rlds(path: Path) -> Iterator[Finding]:
    """Reads every record of every shard of an RLDS directory; checks both CRCs and the counts."""
    rlds = RldsDirectory.open(path)
    for split in rlds.splits.values():
        for shard in split.shards:
            if shard.state != "empty":
                yield from (Finding(error.problem) for error in _damaged_records(rlds, shard))


def _damaged_records(rlds: RldsDirectory, shard: Shard) -> list[DepthtokError]:
    errors: list[DepthtokError] = []
    try:
        for _ in rlds.records(shard, lambda index, error: errors.append(error)):
            pass
    except (CorruptRecord, SourceUnavailable) as error:
        errors.append(error)
    return errors


def repair(path: Path, findings: list[Finding]) -> list[str]:
    """Drops bad parts and files, and leftovers, so that the next run makes just those again.

    Returns the names of what was dropped. Raises `StoreError` while a job of this host writes to
    the store: its temporaries would go too.
    """
    if (path / "parts").is_dir() and any(map(is_being_written, (path / "parts").iterdir())):
        raise StoreError(
            f"a job is writing to {path}", remedy="wait until it ends, or stop it, then repair"
        )
    parts = sorted({finding.part for finding in findings if finding.part})
    files = sorted({finding.file for finding in findings if finding.file})
    for name in parts:
        drop_part(path, name)
    for file in files:
        remove(path / file)
    drop_temporaries(path)
    return parts + files
