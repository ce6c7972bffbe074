"""What a stage is: it turns the parts of a source into the parts of a store.

The output depends on the stage alone: the source determines the parts, and a worker processes one
part at a time. `run.py` runs stages, in this process or on Ray; how does not affect the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from depthtok.disk.regular import gpu_failure, lacks_memory
from depthtok.errors import DepthKindError, DepthtokError, SourceError
from depthtok.stores import filling
from depthtok.stores.arrays import ArraySpec
from depthtok.stores.origin import recorded_inputs
from depthtok.stores.part_writer import PartWriter
from depthtok.stores.parts import Failure, Part, PartName, ShardKey
from depthtok.stores.spec import StoreSpec
from pipelines.convert.changes import Watch

Advance = Callable[..., None]  # how many more are done, and other values to show by name


@dataclass(frozen=True)
class WorkPart:
    """A part to be made: its name, the keys of its episodes, and what it is made from.

    `frames` counts the images of all cameras; `rows` is the range `start` to `stop` of the source
    part's episodes; `upstream` is the digest of the source part, so that a part made from an
    earlier version of it can be recognised. `replaces`: an existing part of that name is replaced.
    `made_of` are the digests of what it is made from (see `depthtok/stores/origin.py`).
    """

    name: PartName
    shard: ShardKey
    episodes: int
    frames: int
    upstream: str = ""
    source: str = ""
    rows: tuple[int, int] = (0, 0)
    replaces: bool = False
    made_of: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def same(cls, part: Part, cameras: int) -> WorkPart:
        """The part to be made of all episodes of a source part, under its name."""
        name, frames = PartName.of(part.name), int(part.frames.sum()) * cameras
        return cls(name, part.shard, len(part.frames), frames, part.digest, part.name)

    def same_source(self, part: Part) -> bool:
        """Whether a part that was made from an earlier version of the source part is of the same
        input all the same: actions or texts were corrected, say."""
        recorded = recorded_inputs(part)
        return bool(recorded) and recorded == dict(self.made_of)


@dataclass(frozen=True)
class Probe:
    """A measurement: `units` items of the stage took `seconds` and would take `bytes` on disk.
    `notes` are what else a plan should say. `seconds` is None where the time was not measured;
    `at_most`: the bytes are those before they are packed."""

    units: float
    seconds: float | None
    bytes: float
    notes: tuple[str, ...] = ()
    at_most: bool = False


Worker = Callable[[WorkPart, PartWriter, Advance], None]


@runtime_checkable
class Stage(Protocol):
    """What `run` needs to know about a stage. Picklable, because it is sent to the workers."""

    @property
    def out(self) -> Path: ...  # the directory of the store

    @property
    def spec(self) -> StoreSpec: ...

    @property
    def unit(self) -> str: ...  # what the progress bar counts: "frames" or "episodes"

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


@runtime_checkable
class Watching(Protocol):
    """A stage whose source is no store: files that may change, or be absent."""

    def watch(self) -> Watch:
        """Tells which parts are of other files than those that are there now."""
        ...


@runtime_checkable
class MakesDepth(Protocol):
    """A stage whose parts hold depth that can be held against what robots see."""

    def median_depth(self, parts: Sequence[Part]) -> tuple[dict[str, float], list[str]]:
        """By camera, in m (none where it is not in metres), of some of its parts that exist; and
        warnings about those that no robot's camera sees."""
        ...


def device_of(stage: Stage) -> str:
    """The device of a stage that chooses one; `cpu` for the others."""
    return getattr(stage, "device", "cpu")


@dataclass
class Tally:
    """What a run has done so far."""

    made: int = 0
    frames_made: int = 0
    busy: float = 0.0
    given_up: dict[str, str] = field(default_factory=dict)

    def add(self, work: WorkPart, seconds: float) -> None:
        """Adds a part that was made."""
        self.made += 1
        self.frames_made += work.frames
        self.busy += seconds


@dataclass(frozen=True)
class Outcome:
    """What a run did, and the resulting state of the store."""

    out: Path
    made: int = 0  # parts
    kept: int = 0
    remade: int = 0  # of those in `made`: they existed, of other input or with failures
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
    schema: str = ""  # of a conversion: the schema that it took
    steps_rule: str = ""  # which steps that leaves out of each episode, in words
    steps_left_out: int | None = None  # how many those are; None where it is not known
    median_depth_m: dict[str, float] = field(default_factory=dict)
    """Of valid depth in metres, by camera: over episodes of the requested parts (of some of them,
    evenly spaced, where there are many)."""
    unlikely_depth: list[str] = field(default_factory=list)  # warnings about those medians
    notes: list[str] = field(default_factory=list)  # what else is worth saying

    @property
    def exit_code(self) -> int:
        return 1 if self.failures or self.given_up else 0


def make_part(stage: Stage, worker: Worker, work: WorkPart, advance: Advance) -> None:
    """Makes one part, atomically."""
    write_part(stage, worker, work, advance, stage.out)


def write_part(stage: Stage, worker: Worker, work: WorkPart, advance: Advance, out: Path) -> None:
    """Makes one part in the store at `out`, which need not be that of the stage. Raises
    `WorkerDied` where the GPU fails."""

    def fill(writer: PartWriter) -> None:
        try:
            worker(work, writer, advance)
        except RuntimeError as error:
            if failure := gpu_failure(error):
                raise failure from error
            raise

    spec, arrays, replaces = stage.spec, stage.arrays(), work.replaces
    name, shard, upstream = work.name, work.shard, work.upstream
    filling.write_part(out, spec, name, shard, arrays, fill, upstream=upstream, replace=replaces)


NOT_THE_EPISODE = (DepthtokError, OSError, MemoryError, AssertionError)
"""Errors that are not specific to an episode, unless they are in BAD_EPISODE."""
BAD_EPISODE = (SourceError, DepthKindError)


@contextmanager
def recording_failures(writer: PartWriter, index: int) -> Iterator[None]:
    """Records a failure of episode `index` in its part, and lets the part continue.

    A full disk, a wrong setting, a lack of memory or a mistake of ours (AssertionError) is not the
    episode's fault, and is raised; so is what a GPU says that fails, after which every episode
    would, as `WorkerDied`.
    """
    try:
        yield
    except BAD_EPISODE as error:
        writer.fail(index, error.problem)
    except NOT_THE_EPISODE:
        raise
    except Exception as error:  # of whatever decodes the episode's bytes
        if lacks_memory(error):
            raise
        if failure := gpu_failure(error):
            raise failure from error
        writer.fail(index, f"{type(error).__name__}: {error}")
