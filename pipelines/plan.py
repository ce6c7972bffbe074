"""What a stage would do, how long it would take and how much it would write, before it starts.

Times and sizes are measured on a few items of the job itself, on the device that it would use, and
extrapolated. Nothing is written.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from depthtok import depth
from depthtok.arrays import STREAM_SHARD, ArraySpec, ArrayWriter
from depthtok.config import RunOptions
from depthtok.data import Camera, DepthClip, EpisodeKey, FrameClip, ImageTransform
from depthtok.episodes import StoredEpisode
from depthtok.format import human_bytes, human_count, human_duration
from depthtok.store import ROOT
from pipelines.annotate import AnnotateStage
from pipelines.convert import ConvertStage
from pipelines.device import one_thread
from pipelines.fused import FusedStage
from pipelines.stage import Stage, WorkPart, first_episodes, pending
from pipelines.tokenize import TokenizeStage

FRAMES = 32  # frames of one clip: an estimator's window
EPISODES = 8


@dataclass(frozen=True)
class Probe:
    """A measurement: `units` items of the stage took `seconds` and would take `bytes` on disk."""

    units: int
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
    seconds: float  # worker-seconds, over all workers
    bytes: float
    free_bytes: int

    def lines(self) -> list[str]:
        """The plan as text."""
        wall = self.seconds / max(self.workers, 1)
        lines = [
            f"{self.stage} -> {self.out}: {self.parts} parts to make, {self.parts_there} done",
            f"  {human_count(self.episodes)} episodes, {human_count(self.units)} {self.unit}",
            f"  about {human_duration(self.seconds)} on one {self.device} worker"
            + (f", {human_duration(wall)} on {self.workers}" if self.workers > 1 else ""),
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
    probe = _PROBES[type(stage)](stage, todo[0]) if todo else Probe(1, 0.0, 0.0)
    return Plan(
        stage.spec.stage, str(stage.out), len(todo), len(wanted) - len(todo),
        sum(part.episodes for part in todo), stage.unit, units,
        getattr(stage, "device", "cpu"), options.workers,
        probe.seconds / probe.units * units, probe.bytes / probe.units * units,
        shutil.disk_usage(_existing(stage.out)).free,
    )  # fmt: skip


def _existing(path: Path) -> Path:
    path = path.resolve()
    while not path.exists():
        path = path.parent
    return path


def _convert(stage: ConvertStage, work: WorkPart) -> Probe:
    """Reads the first episodes of a shard; the stored size of a step follows from its columns."""
    shard = stage.rlds.splits[work.source].shards[work.rows[0]]
    started, episodes, steps, images = time.monotonic(), 0, 0, 0
    for raw in islice(stage.rlds.records(shard), EPISODES):
        spans = [raw.spans(path) for path in stage.view_paths]
        images += sum(int(span.length.sum()) for span in spans)
        episodes, steps = episodes + 1, steps + len(raw)
    row = sum(
        np.dtype(spec.dtype).itemsize * int(np.prod(spec.row))
        for spec in stage.arrays().values()
        if not spec.per_episode
    )
    copied = images if stage.config.copy_images else 0
    return Probe(max(episodes, 1), time.monotonic() - started, row * steps + copied)


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


def _annotate(stage: AnnotateStage, work: WorkPart) -> Probe:
    """Estimates and packs the first frames of an episode."""
    one_thread()
    part = stage.episodes.part(work.source)
    episode = StoredEpisode(stage.episodes, part, work.rows[0])
    clip = _Head(episode.frames(stage.cameras[0]), FRAMES)
    estimator = stage.load_estimator()
    list(estimator.estimate([_Head(clip, 1)]))  # warm-up: loads and compiles
    started = time.monotonic()
    found = [block.depth for block in estimator.estimate([clip]) if block.depth is not None]
    transform = ImageTransform(size=stage.size)
    stored = [
        depth.pack(DepthClip.of(transform.depth(clip.values, clip.kind), clip.kind), stage.encoding)
        for clip in found
    ]
    size = _packed_bytes(np.concatenate(stored)) if stored else 0
    return Probe(max(sum(map(len, stored)), 1), time.monotonic() - started, size)


def _packed_bytes(values: np.ndarray) -> int:
    """Bytes on disk of some rows of a stream."""
    with tempfile.TemporaryDirectory() as folder:
        spec = ArraySpec(values.dtype.name, values.shape[1:], stream=True)
        writer = ArrayWriter(Path(folder), "depth", spec)
        writer.append(values[:STREAM_SHARD])
        writer.close()
        return sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file())


def _tokenize(stage: TokenizeStage, work: WorkPart) -> Probe:
    """Encodes the first frames of a clip; codes are not compressed."""
    from vqvae.codec import Codec

    one_thread()
    codec = Codec.load(stage.codebook.path, stage.device)
    clips = stage.depth.clips_of(stage.depth.part(work.source), stage.cameras)
    clip = next(iter(clips))
    span = stage.codebook.normalisation.range_of(clip.disparity_quantiles)
    codec.encode(clip.read(0, 1).to_disparity(), span)
    started = time.monotonic()
    frames = len(codec.encode(clip.read(0, min(FRAMES, len(clip))).to_disparity(), span))
    return Probe(frames, time.monotonic() - started, frames * int(np.prod(stage.codebook.grid)))


def _fused(stage: FusedStage, work: WorkPart) -> Probe:
    """Like `annotate`: encoding is cheap in comparison, and codes are not compressed. Depth is
    spilled too, but only that of the parts in progress."""
    probe = _annotate(stage.annotate, work)
    return Probe(probe.units, probe.seconds, probe.units * int(np.prod(stage.codebook.grid)))


_PROBES: dict[type, Callable[..., Probe]] = {
    ConvertStage: _convert,
    AnnotateStage: _annotate,
    TokenizeStage: _tokenize,
    FusedStage: _fused,
}
