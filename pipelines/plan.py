"""What a stage would do, how long it would take and how much it would write, before it starts.

Times and sizes are measured on a few items of the job itself, on the device that it would use, and
extrapolated. Episodes that the run would record as failed are skipped. Nothing is written.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from depthtok import depth
from depthtok.arrays import STREAM_SHARD, ArraySpec, ArrayWriter
from depthtok.config import RunOptions
from depthtok.data import Camera, DepthClip, EpisodeKey, FrameClip, ImageTransform
from depthtok.episodes import StoredEpisode
from depthtok.errors import SourceError
from depthtok.format import human_bytes, human_count, human_duration
from depthtok.sources.rlds import Shard
from depthtok.store import ROOT
from pipelines.annotate import AnnotateStage
from pipelines.convert import ConvertStage
from pipelines.device import one_thread
from pipelines.fused import FusedStage
from pipelines.stage import BAD_EPISODE, Stage, WorkPart, first_episodes, pending
from pipelines.tokenize import TokenizeStage
from pipelines.videos import VideoStage, sample

FRAMES = 32  # frames of one clip: an estimator's window
EPISODES = 8
PARTS = 8  # tried if the first cannot be measured


@dataclass(frozen=True)
class Probe:
    """A measurement: `units` items of the stage took `seconds` and would take `bytes` on disk."""

    units: float
    seconds: float
    bytes: float


@dataclass(frozen=True)
class Plan:
    """The estimated cost of a job before it runs."""

    stage: str
    out: str
    parts: int
    parts_there: int
    episodes: int
    unit: str
    units: int
    device: str
    workers: int
    seconds: float | None  # worker-seconds, over all workers; None if nothing could be measured
    bytes: float | None
    free_bytes: int

    def lines(self) -> list[str]:
        """The plan as text."""
        counts = f"  {human_count(self.episodes)} episodes"
        if self.unit != "episodes":
            counts += f", {human_count(self.units)} {self.unit}"
        lines = [
            f"{self.stage} -> {self.out}: {self.parts} parts to make, {self.parts_there} done",
            counts,
        ]
        if self.seconds is None or self.bytes is None:
            return [*lines, "  time and size are unknown: none of the episodes tried can be read"]
        busy = min(self.workers, self.parts)  # a part is made by one worker
        wall = f", {human_duration(self.seconds / busy)} on {busy}" if busy > 1 else ""
        lines += [
            f"  about {human_duration(self.seconds)} on one {self.device} worker{wall}",
            f"  about {human_bytes(self.bytes)} to write; {human_bytes(self.free_bytes)} are free",
        ]
        if self.bytes > self.free_bytes:
            lines.append("  not enough space: choose another --out, or a smaller --size")
        return lines


def plan(stage: Stage, options: RunOptions) -> Plan:
    """The plan of a stage; measures a few items if anything is left to do."""
    work = stage.work()
    wanted = options.mine(first_episodes(work, options.limit))
    todo = pending(stage, wanted, options) if (stage.out / ROOT).is_file() else wanted
    units = sum(part.frames if stage.unit == "frames" else part.episodes for part in todo)
    some = [part for part in todo if part.episodes][:PARTS]
    probe = _PROBES[type(stage)](stage, some) if some else Probe(1, 0.0, 0.0)
    return Plan(
        stage.spec.stage, str(stage.out), len(todo), len(wanted) - len(todo),
        sum(part.episodes for part in todo), stage.unit, units,
        getattr(stage, "device", "cpu"), options.workers,
        probe and probe.seconds / probe.units * units, probe and probe.bytes / probe.units * units,
        shutil.disk_usage(_existing(stage.out)).free,
    )  # fmt: skip


def _existing(path: Path) -> Path:
    path = path.resolve()
    while not path.exists():
        path = path.parent
    return path


def _convert(stage: ConvertStage, parts: Sequence[WorkPart]) -> Probe | None:
    """Reads the first episodes of a shard; the stored size of a step follows from its columns."""
    shards = (stage.rlds.splits[part.source].shards[part.rows[0]] for part in parts)
    probes = (_indexed(stage, shard) for shard in shards)
    return next((probe for probe in probes if probe.units), None)


def _indexed(stage: ConvertStage, shard: Shard) -> Probe:
    started, episodes, steps, images = time.monotonic(), 0, 0, 0
    records = stage.rlds.records(shard, lambda index, error: None)
    with suppress(SourceError):  # nothing after this point can be read
        for raw in islice(records, EPISODES):
            with suppress(SourceError):
                spans = [raw.spans(path) for path in stage.view_paths]
                images += sum(int(span.length.sum()) for span in spans)
                episodes, steps = episodes + 1, steps + len(raw)
    row = sum(
        np.dtype(spec.dtype).itemsize * int(np.prod(spec.row))
        for spec in stage.arrays().values()
        if not spec.per_episode
    )
    copied = images if stage.config.copy_images else 0
    return Probe(episodes, time.monotonic() - started, row * steps + copied)


@dataclass(frozen=True)
class _Head:
    """The first frames of a clip."""

    clip: FrameClip
    frames: int

    @property
    def key(self) -> EpisodeKey:
        return self.clip.key

    @property
    def camera(self) -> Camera:
        return self.clip.camera

    @property
    def fps(self) -> float | None:
        return self.clip.fps

    def __len__(self) -> int:
        return min(self.frames, len(self.clip))

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.clip.read(start, stop)

    def true_depth(self, start: int, stop: int) -> np.ndarray:
        return self.clip.true_depth(start, stop)


Make = Callable[[WorkPart, int, int], tuple[int, int]]
"""Processes the first frames of an episode, given its part, its row there and the number of frames.
Returns the number of frames made (0 if the run would record a failure) and their bytes."""


def _timed(make: Make, parts: Sequence[WorkPart]) -> Probe | None:
    """Times the first episode that works: tries the first of every part, then the second, ..."""
    for row in range(EPISODES):
        for part in (part for part in parts if row < part.episodes):
            if not make(part, row, 1)[0]:  # warm-up: imports, loads and compiles
                continue
            started = time.monotonic()
            frames, size = make(part, row, FRAMES)
            if frames:
                return Probe(frames, time.monotonic() - started, size)
    return None


def _annotate(stage: AnnotateStage, parts: Sequence[WorkPart]) -> Probe | None:
    """Estimates and packs the first frames of an episode."""
    one_thread()
    estimator, transform = stage.load_estimator(), ImageTransform(size=stage.size)

    def make(work: WorkPart, row: int, frames: int) -> tuple[int, int]:
        part = stage.episodes.part(work.source)
        episode = StoredEpisode(stage.episodes, part, work.rows[0] + row)
        present = [name for name in stage.cameras if not episode.absent(name)]
        if not present:
            return 0, 0
        head = _Head(episode.frames(present[0]), frames)
        found = [block.depth for block in estimator.estimate([head])]
        if any(clip is None for clip in found):
            return 0, 0
        resized = [DepthClip.of(transform.depth(c.values, c.kind), c.kind) for c in found]
        with suppress(SourceError):
            stored = np.concatenate([depth.pack(clip, stage.encoding) for clip in resized])
            return len(stored), _packed_bytes(stored)
        return 0, 0

    return _timed(make, parts)


def _packed_bytes(values: np.ndarray) -> int:
    """Bytes on disk of some rows of a stream."""
    with tempfile.TemporaryDirectory() as folder:
        spec = ArraySpec(values.dtype.name, values.shape[1:], stream=True)
        writer = ArrayWriter(Path(folder), "depth", spec)
        writer.append(values[:STREAM_SHARD])
        writer.close()
        return sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file())


def _tokenize(stage: TokenizeStage, parts: Sequence[WorkPart]) -> Probe | None:
    """Encodes the first frames of a clip; codes are not compressed."""
    from vqvae.codec import Codec

    one_thread()
    codec = Codec.load(stage.codebook.path, stage.device)
    camera, size = stage.cameras[:1], int(np.prod(stage.codebook.grid))

    def make(work: WorkPart, row: int, frames: int) -> tuple[int, int]:
        clips = stage.depth.clips_of(stage.depth.part(work.source), camera)
        clip = next(islice(clips, row, None), None)
        if clip is None:  # the episodes before do not have this camera
            return 0, 0
        with suppress(*BAD_EPISODE):
            span = stage.codebook.normalisation.range_of(clip.disparity_quantiles)
            disparity = clip.read(0, min(frames, len(clip))).to_disparity()
            made = len(codec.encode(disparity, span))
            return made, made * size
        return 0, 0

    return _timed(make, parts)


def _fused(stage: FusedStage, parts: Sequence[WorkPart]) -> Probe | None:
    """Like `annotate`: encoding is cheap in comparison, and codes are not compressed. Depth is
    spilled too, but only that of the parts in progress."""
    probe = _annotate(stage.annotate, parts)
    codes = int(np.prod(stage.codebook.grid))
    return probe and Probe(probe.units, probe.seconds, probe.units * codes)


def _videos(stage: VideoStage, parts: Sequence[WorkPart]) -> Probe | None:
    """Packs the first frames of a film; how long films are is what their containers say."""
    measured = sample(stage, parts, FRAMES)
    return measured and Probe(*measured)


_PROBES: dict[type, Callable[..., Probe | None]] = {
    ConvertStage: _convert,
    AnnotateStage: _annotate,
    TokenizeStage: _tokenize,
    FusedStage: _fused,
    VideoStage: _videos,
}
