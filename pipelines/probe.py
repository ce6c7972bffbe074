"""Measuring a stage on a few items, for `--plan`: their time, and what they would write.

Every stage has a `probe`, which uses what is here. Nothing is written, but to a temporary folder.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from depthtok import depth
from depthtok.arrays import STREAM_SHARD, ArraySpec, ArrayWriter
from depthtok.data import Camera, DepthClip, EpisodeKey, FrameClip, ImageTransform
from depthtok.errors import SourceError
from depthtok.sources.shards import Shard
from depthtok.stored_episode import StoredEpisode
from pipelines.device import one_thread
from pipelines.stage import Probe, WorkPart

if TYPE_CHECKING:  # they import this file
    from pipelines.annotate import AnnotateStage
    from pipelines.convert import ConvertStage

FRAMES = 32  # frames of one clip: an estimator's window
EPISODES = 8


def converted(stage: ConvertStage, parts: Sequence[WorkPart]) -> Probe | None:
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


def timed(make: Make, parts: Sequence[WorkPart]) -> Probe | None:
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


def annotated(stage: AnnotateStage, parts: Sequence[WorkPart]) -> Probe | None:
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
            return len(stored), packed_bytes(stored)
        return 0, 0

    return timed(make, parts)


def packed_bytes(values: np.ndarray) -> int:
    """Bytes on disk of some rows of a stream."""
    with tempfile.TemporaryDirectory() as folder:
        spec = ArraySpec(values.dtype.name, values.shape[1:], stream=True)
        writer = ArrayWriter(Path(folder), "depth", spec)
        writer.append(values[:STREAM_SHARD])
        writer.close()
        return sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file())
