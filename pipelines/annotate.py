"""annotate: EpisodeStore -> DepthStore."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from depthtok import depth
from depthtok.arrays import ArraySpec
from depthtok.config import to_json
from depthtok.data import DepthBlock, DepthClip, DepthEstimator, EstimatorSpec, ImageTransform
from depthtok.depth import ClipQuantiles, DepthEncoding
from depthtok.episodes import EpisodeStore, StoredEpisode, View
from depthtok.errors import ConfigError, SourceError
from depthtok.parts import Part, PartName, PartWriter
from depthtok.store import StoreSpec
from pipelines.config import AnnotateConfig
from pipelines.device import one_thread
from pipelines.estimators import find
from pipelines.probe import annotated
from pipelines.stage import Advance, Probe, Worker, WorkPart
from pipelines.vida.config import RunConfig

VERSION = 1
PART_FRAMES = 2048  # steps: a trade-off between work lost to a kill and the number of files


@dataclass(frozen=True)
class AnnotateStage:
    """Depth for the chosen cameras of every episode.

    `weights` is the file of the estimator's weights; None searches the usual places.
    """

    episodes: EpisodeStore
    out: Path
    config: AnnotateConfig
    device: str
    partial: bool = False
    weights: Path | None = None
    unit: str = "frames"

    @cached_property
    def cameras(self) -> tuple[str, ...]:
        """The chosen cameras, or all; with `dataset` all that have depth."""
        store, names = self.episodes, self.config.camera
        if names:
            return tuple(store.camera(name).name for name in names)
        if self.config.estimator != "dataset":
            return tuple(store.cameras)
        found = tuple(name for name, camera in store.cameras.items() if camera.has_depth)
        if not found:
            raise ConfigError(
                f"{store.path} has no depth of its own",
                remedy="choose an estimator that needs RGB only: --estimator vits",
            )
        return found

    @cached_property
    def estimator(self) -> EstimatorSpec:
        """The estimator's specification. Determined once, by the driver; workers check theirs."""
        return self.load_estimator().spec

    def load_estimator(self) -> DepthEstimator:
        """The estimator, ready to use."""
        config = self.config
        run = RunConfig(
            input_size=config.input_size or None,
            precision=None if config.precision == "auto" else config.precision,
            compile=config.compile,
        )
        device = torch.device(self.device)
        return find(config.estimator).build(self.weights, run, device)

    @cached_property
    def size(self) -> tuple[int, int]:
        """Height and width of the stored depth, px."""
        if self.config.size:
            return (self.config.size, self.config.size)
        sizes = {(c.height, c.width) for c in map(self.episodes.camera, self.cameras)}
        if len(sizes) > 1 or None in next(iter(sizes)):
            raise ConfigError(
                "the cameras have frames of different sizes",
                remedy="give one --size for all, or annotate each --camera into its own --out",
            )
        return sizes.pop()

    @cached_property
    def encoding(self) -> DepthEncoding:
        """How depth is encoded in the store."""
        if self.config.estimator != "dataset":
            return DepthEncoding.FLOAT16
        views = [self.episodes.views[self.episodes.view_index(c, "depth")] for c in self.cameras]
        whole = all(_in_millimetres(view) for view in views)
        return DepthEncoding.UINT16_MM if whole else DepthEncoding.FLOAT32

    @cached_property
    def spec(self) -> StoreSpec:
        transform = ImageTransform(size=self.size)
        return StoreSpec(
            type="depth", stage="annotate", stage_version=VERSION,
            what={
                **to_json(self.config),
                "estimator": to_json(self.estimator),
                "part_frames": PART_FRAMES,
            },
            about={
                "kind": self.estimator.kind.value,
                "encoding": self.encoding.value,
                "error": self.encoding.error,
                "cameras": list(self.cameras),
                "size": list(self.size),
                "transform": transform.to_json(),
                "dataset": self.episodes.about["dataset"],
                "fps": self.episodes.fps,
            },
            upstream=self.episodes.fingerprint, shards=self.episodes.spec.shards,
            place={"episodes": str(self.episodes.path.resolve())},
        )  # fmt: skip

    def work(self) -> list[WorkPart]:
        self.episodes.require_complete(partial=self.partial)
        self.episodes.require_source()
        return [work for part in self.episodes.parts() for work in self._pieces(part)]

    def _pieces(self, part: Part) -> Iterator[WorkPart]:
        cuts = cut(part.frames.tolist(), PART_FRAMES)
        shard = PartName.parse(part.name).shard
        for piece, (start, stop) in enumerate(cuts):
            frames = int(part.frames[start:stop].sum()) * len(self.cameras)
            yield WorkPart(PartName(shard, piece, len(cuts)), part.shard, stop - start, frames,
                           part.digest, part.name, (start, stop))  # fmt: skip

    def arrays(self) -> Mapping[str, ArraySpec]:
        return depth.array_specs(self.cameras, self.size, self.encoding)

    def build(self, device: str) -> Worker:
        one_thread()
        estimator = self.load_estimator()
        if estimator.spec != self.estimator:
            raise ConfigError(
                f"this worker would estimate with {to_json(estimator.spec)}, but the store is "
                f"made with {to_json(self.estimator)}",
                remedy="use the same weights and software on every machine",
            )

        def fill(work: WorkPart, writer: PartWriter, advance: Advance) -> None:
            part = self.episodes.part(work.source)
            writer.roots = (self.episodes.source_root, self.episodes.path)
            inherit(part, writer, first_piece=work.name.piece == 0)
            rows = [StoredEpisode(self.episodes, part, row) for row in range(*work.rows)]
            clips = [episode.frames(camera) for episode in rows for camera in self.cameras]
            sink = _Sink(self, rows, writer, _Meter(estimator, advance))
            for block in estimator.estimate(clips):
                sink.take(block)
            sink.close()
            writer.meta["device"] = estimator.device
            if estimator.degraded:
                writer.meta["degraded"] = "out of memory: batches were halved, low bits may differ"

        return fill

    def probe(self, parts: Sequence[WorkPart]) -> Probe | None:
        return annotated(self, parts)

    def finish(self) -> None:
        """Does nothing: the store is complete once all parts exist."""


def _in_millimetres(view: View) -> bool:
    """Whether every stored value is a whole number of millimetres."""
    scale_mm = (view.scale_m or 0) * 1000
    whole = scale_mm >= 1 and abs(scale_mm - round(scale_mm)) < 1e-9
    return whole and np.dtype(view.format.dtype).kind in "iu"


def inherit(part: Part, writer: PartWriter, *, first_piece: bool = True) -> None:
    """Carries over the failures of earlier stages: counted once, by the first piece."""
    for failure in part.failures if first_piece else ():
        writer.fail(failure.key.index, failure.reason, failure.stage)


def cut(frames: list[int], limit: int) -> list[tuple[int, int]]:
    """Ranges (start, stop) of whole episodes with at most `limit` frames, or a single episode."""
    cuts, start, total = [], 0, 0
    for row, count in enumerate(frames):
        if total and total + count > limit:
            cuts.append((start, row))
            start, total = row, 0
        total += count
    return [*cuts, (start, len(frames))]


class _Meter:
    """Reports how many frames are done, with the share of time in which the estimator was waiting
    neither for frames nor for the store to write its output."""

    def __init__(self, estimator: DepthEstimator, advance: Advance) -> None:
        self._estimator, self._advance = estimator, advance
        self._started, self._before, self._storing = time.monotonic(), self._waited(), 0.0

    def __call__(self, frames: int, storing: float = 0.0) -> None:
        """Reports `frames` more as done; `storing` seconds went into writing them."""
        self._storing += storing
        passed = time.monotonic() - self._started
        idle = self._waited() - self._before + self._storing
        self._advance(frames, busy=round(max(0.0, 1 - idle / max(passed, 1e-9)), 2))

    def _waited(self) -> float:
        return getattr(self._estimator, "waited", 0.0)  # not every estimator measures it


class _Sink:
    """Writes an estimator's blocks, clip by clip, as episodes."""

    def __init__(
        self, stage: AnnotateStage, episodes: list[StoredEpisode], writer: PartWriter,
        advance: _Meter,
    ) -> None:  # fmt: skip
        self.stage, self.episodes, self.writer, self.advance = stage, episodes, writer, advance
        self.transform = ImageTransform(size=stage.size)
        self.row = 0  # the current episode
        self.failed: int | None = None  # the episode whose other clips are skipped
        self.got = 0  # frames written of the current clip
        self.counts = ClipQuantiles(stage.encoding)
        self.quantiles: list[np.ndarray] = []

    def take(self, block: DepthBlock) -> None:
        """Writes a block, or records why its episode failed."""
        started = time.monotonic()
        row, place = divmod(block.clip, len(self.stage.cameras))
        if row == self.failed:
            return
        assert row == self.row, f"got a block of episode {row}, but {self.row} is not complete"
        camera = self.stage.cameras[place]
        if block.error:
            self._fail(camera, block.error)
            return
        try:
            stored = self._stored(block.depth)
        except SourceError as error:  # not caused by the settings: other episodes may fit
            self._fail(camera, error.problem)
            return
        self.writer.append(depth.array_name(camera), stored)
        self.counts.add(stored)
        self.got += len(stored)
        self.advance(len(stored), time.monotonic() - started)
        if self.got == len(self.episodes[row]):
            self._end_clip()

    def close(self) -> None:
        """Checks at the end that every episode is complete or has failed."""
        assert self.row == len(self.episodes), f"the estimator stopped in episode {self.row}"

    def _stored(self, clip: DepthClip) -> np.ndarray:
        values = self.transform.depth(clip.values, clip.kind)
        valid = self.transform.depth(clip.valid.astype(np.float32), clip.kind) > 0.999
        return depth.pack(DepthClip.of(values, clip.kind, valid), self.stage.encoding)

    def _fail(self, camera: str, reason: str) -> None:
        episode = self.episodes[self.row]
        self.writer.fail(episode.key.index, f"{camera}: {reason}")
        done = len(self.quantiles) * len(episode) + self.got
        self.advance(len(episode) * len(self.stage.cameras) - done)
        self.failed = self.row
        self._next_episode()

    def _end_clip(self) -> None:
        episode = self.episodes[self.row]
        self.quantiles.append(self.counts.values())
        self.got, self.counts = 0, ClipQuantiles(self.stage.encoding)
        if len(self.quantiles) == len(self.stage.cameras):
            table = np.stack(self.quantiles)
            self.writer.end(episode.key.index, len(episode), quantiles=table)
            self._next_episode()

    def _next_episode(self) -> None:
        self.row, self.got, self.quantiles = self.row + 1, 0, []
        self.counts = ClipQuantiles(self.stage.encoding)
