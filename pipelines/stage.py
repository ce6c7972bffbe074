"""A stage turns the parts of a source into the parts of a store, independent of where it runs.

    run(stage, options)     makes the missing parts: in this process, or on Ray workers

The output depends on the stage alone: the source determines the parts, a worker processes one part
at a time, and `options` do not affect the bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from depthtok import store
from depthtok.arrays import ArraySpec
from depthtok.config import RunOptions
from depthtok.errors import DepthKindError, DepthtokError, SourceError
from depthtok.origin import FRAMES
from depthtok.parts import Failure, Part, PartName, PartWriter, ShardKey
from depthtok.progress import Bar, progress
from depthtok.regular import lacks_memory
from depthtok.store import Store, StoreSpec
from pipelines.changes import Watch

ATTEMPTS = 3  # worker deaths before a part is given up
Advance = Callable[..., None]  # how many more are done, and other values to show


@dataclass(frozen=True)
class WorkPart:
    """A part to be made: its name, the keys of its episodes, and what it is made from.

    `frames` counts the images of all cameras; `rows` is the range `start` to `stop` of the source
    part's episodes; `upstream` is the digest of the source part, so that a part made from an
    earlier version of it can be recognised. `replaces`: an existing part of that name is replaced.
    `frames_from` are the digests of the frames that it is made from, by view.
    """

    name: PartName
    shard: ShardKey
    episodes: int
    frames: int
    upstream: str = ""
    source: str = ""
    rows: tuple[int, int] = (0, 0)
    replaces: bool = False
    frames_from: Mapping[str, str] = field(default_factory=dict)

    def same_source(self, part: Part) -> bool:
        """Whether a part that was made from an earlier version of the source part is of the same
        frames all the same: actions or texts were corrected, say."""
        recorded = dict(part.meta.get(FRAMES, {}))
        return bool(recorded) and recorded == dict(self.frames_from)


@dataclass(frozen=True)
class Probe:
    """A measurement: `units` items of the stage took `seconds` and would take `bytes` on disk."""

    units: float
    seconds: float
    bytes: float


Worker = Callable[[WorkPart, PartWriter, Advance], None]


@runtime_checkable
class Stage(Protocol):
    """What `run` needs to know about a stage. Picklable, because it is sent to the workers."""

    out: Path
    spec: StoreSpec
    unit: str  # what the progress bar counts: "frames" or "episodes"

    def work(self) -> list[WorkPart]:
        """All parts of the complete store (or of a partially used source), in order."""
        ...

    def arrays(self) -> Mapping[str, ArraySpec]:
        """The arrays of a part."""
        ...

    def build(self, device: str) -> Worker:
        """Loads what a worker needs, once; the returned worker then fills parts."""
        ...

    def probe(self, parts: Sequence[WorkPart]) -> Probe | None:
        """A measurement on some of `parts`, for `--plan`; None if none can be read."""
        ...

    def finish(self) -> None:
        """Called when the store is complete."""
        ...


@dataclass
class Outcome:
    """What a run did, and the resulting state of the store."""

    out: Path
    made: int = 0  # parts
    kept: int = 0
    remade: int = (
        0  # of those in `made`: parts that existed, made from other input or with failures
    )
    left: int = 0  # missing parts that this run was not asked to make
    episodes: int = 0  # in the requested parts
    steps: int = 0
    bytes: int = 0  # on disk, of the requested parts
    frames_made: int = 0  # images of all cameras
    seconds: float = 0.0
    busy: float = 0.0  # worker-seconds spent on parts
    failures: list[Failure] = field(default_factory=list)  # failures of this stage
    inherited: int = 0  # episodes that failed in an earlier stage
    earlier: dict[str, int] = field(default_factory=dict)  # the same by stage
    absent: dict[str, int] = field(default_factory=dict)  # by camera: episodes without it
    flags_against_pictures: dict[str, dict[str, int]] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)  # by the schema: reason -> episodes
    unstated: int = 0  # videos whose containers do not say how long they are
    given_up: dict[str, str] = field(default_factory=dict)  # part -> reason
    not_measured: dict[str, dict[str, int]] = field(default_factory=dict)
    """Of depth that the data set has, by camera: its pixels, and how many held which placeholder
    (in the parts that held some)."""
    notes: list[str] = field(default_factory=list)  # what else is worth saying

    @property
    def exit_code(self) -> int:
        return 1 if self.failures or self.given_up else 0


def run(stage: Stage, options: RunOptions) -> Outcome:
    """Makes the missing parts of `stage`, and returns the state of the store.

    Raises `DepthtokError` for problems not specific to an episode: settings, a full disk, a missing
    source.
    """
    started = time.monotonic()
    if options.workers:
        from pipelines.ray_cluster import address_of, require_answer

        require_answer(address_of(options.ray_address))
    work = stage.work()
    store.create(stage.out, stage.spec)
    store.drop_dead(stage.out)
    drop_other_cuts(stage.out, work)
    wanted = options.mine(first_episodes(work, options.limit))
    watch = watched(stage, wanted)
    todo = pending(stage, wanted, options, watch)
    outcome = Outcome(stage.out, kept=len(wanted) - len(todo), left=len(work) - len(wanted))
    if watch:
        outcome.given_up, outcome.notes = dict(watch.absent), watch.lines()
        outcome.kept -= len(watch.absent)
    outcome.remade = sum(work.replaces for work in todo)
    count = {"frames": sum(p.frames for p in todo), "episodes": sum(p.episodes for p in todo)}
    with progress(total=count[stage.unit], unit=stage.unit, label=stage.spec.stage) as bar:
        if options.workers and todo:
            from pipelines.ray_pool import run_on_ray

            try:
                run_on_ray(stage, todo, options, bar, outcome)
            finally:
                store.drop_dead(stage.out)  # left behind by dead workers
        else:
            run_here(stage, todo, options, bar, outcome)
    if watch:
        watch.remember([str(work.name) for work in todo if str(work.name) not in outcome.given_up])
    _look(stage, wanted, outcome)
    outcome.seconds = time.monotonic() - started
    if not outcome.given_up and not Store(stage.out).missing():
        stage.finish()
    return outcome


def first_episodes(work: list[WorkPart], limit: int | None) -> list[WorkPart]:
    """The parts with the first `limit` episodes. Parts are whole, so there may be a few more."""
    if limit is None:
        return work
    chosen, episodes = [], 0
    for part in work:
        if episodes >= limit:
            break
        chosen.append(part)
        episodes += part.episodes
    return chosen


def drop_other_cuts(out: Path, work: list[WorkPart]) -> None:
    """Drops parts of shards that are now cut differently, because their source was remade."""
    names, shards = {str(part.name) for part in work}, {part.name.shard for part in work}
    for name in store.present_parts(out):
        if name not in names and PartName.parse(name).shard in shards:
            store.drop_part(out, name)


def watched(stage: Stage, wanted: list[WorkPart]) -> Watch | None:
    """What became of the sources of the wanted parts, where the stage's source is no store."""
    if not hasattr(stage, "watch"):
        return None
    watch, found = stage.watch(), Store(stage.out)
    names = [str(work.name) for work in wanted]
    present = {*names} & {*found.part_names}
    watch.look(names, {name: found.part(name) for name in sorted(present)})
    return watch


def pending(
    stage: Stage, wanted: list[WorkPart], options: RunOptions, watch: Watch | None = None
) -> list[WorkPart]:
    """The parts still to be made; those that replace an existing part are marked."""
    found = Store(stage.out)
    present = set(found.part_names)
    todo = []
    for work in wanted:
        name = str(work.name)
        there, changed = name in present, watch is not None and name in watch.changed
        if there and options.resume and not changed and not _outdated(
            found.part(name), work, options
        ):  # fmt: skip
            continue
        if watch is None or name not in watch.absent:
            todo.append(replace(work, replaces=there))
    return todo


def _outdated(part: Part, work: WorkPart, options: RunOptions) -> bool:
    if part.upstream != work.upstream:
        return not work.same_source(part)
    own = (failure.stage == part.manifest["stage"] for failure in part.failures)
    return options.retry_failed and any(own)


def run_here(
    stage: Stage, todo: list[WorkPart], options: RunOptions, bar: Bar, outcome: Outcome
) -> None:
    """Makes parts in this process, one after another."""
    if not todo:
        return
    worker = stage.build(options.device)
    for work in todo:
        started = time.monotonic()
        make_part(stage, worker, work, bar.advance)
        note_made(outcome, work, time.monotonic() - started)


def make_part(stage: Stage, worker: Worker, work: WorkPart, advance: Advance) -> None:
    """Makes one part, atomically."""
    store.write_part(
        stage.out, stage.spec, work.name, work.shard, stage.arrays(),
        lambda writer: worker(work, writer, advance), upstream=work.upstream,
        replace=work.replaces,
    )  # fmt: skip


def note_made(outcome: Outcome, work: WorkPart, seconds: float) -> None:
    """Records a part that was made."""
    outcome.made += 1
    outcome.frames_made += work.frames
    outcome.busy += seconds


def _look(stage: Stage, wanted: list[WorkPart], outcome: Outcome) -> None:
    """Reads the state of the requested parts."""
    found = Store(stage.out)
    present = set(found.part_names)
    for work in wanted:
        if str(work.name) not in present:
            continue
        part = found.part(str(work.name))
        outcome.episodes += len(part.frames)
        outcome.steps += int(part.frames.sum())
        outcome.bytes += sum(size for size, _ in part.manifest["files"].values())
        for camera, counts in part.meta.get("not_measured", {}).items():
            total = outcome.not_measured.setdefault(camera, {})
            total.update({name: total.get(name, 0) + count for name, count in counts.items()})
        own = [failure for failure in part.failures if failure.stage == stage.spec.stage]
        outcome.failures += own
        outcome.unstated += "length" in part.meta
        for failure in part.failures:
            if failure.stage != stage.spec.stage:
                outcome.earlier[failure.stage] = outcome.earlier.get(failure.stage, 0) + 1
        for camera, indices in part.absent.items():
            outcome.absent[camera] = outcome.absent.get(camera, 0) + len(indices)
        for camera, counts in part.meta.get("flags_against_pictures", {}).items():
            total = outcome.flags_against_pictures.setdefault(camera, dict.fromkeys(counts, 0))
            for name, count in counts.items():
                total[name] += count
        for reason, indices in part.meta.get("left_out", {}).items():
            outcome.left_out[reason] = outcome.left_out.get(reason, 0) + len(indices)
    outcome.inherited = sum(outcome.earlier.values())


NOT_THE_EPISODE = (DepthtokError, OSError, MemoryError, AssertionError)
"""Errors that are not specific to an episode, unless they are in BAD_EPISODE."""
BAD_EPISODE = (SourceError, DepthKindError)


@contextmanager
def recording_failures(writer: PartWriter, index: int) -> Iterator[None]:
    """Records a failure of episode `index` in its part, and lets the part continue.

    A full disk, a wrong setting, a lack of memory or a mistake of ours (AssertionError) is not the
    episode's fault, and is raised.
    """
    try:
        yield
    except BAD_EPISODE as error:
        writer.fail(index, error.problem)
    except NOT_THE_EPISODE:
        raise
    except Exception as error:
        if lacks_memory(error):
            raise
        writer.fail(index, f"{type(error).__name__}: {error}")
