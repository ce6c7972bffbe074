"""annotate: EpisodeStore -> DepthStore."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from depthtok import depth, store
from depthtok.arrays import ArraySpec
from depthtok.config import to_json
from depthtok.data import (
    QUANTILES,
    DepthBlock,
    DepthClip,
    DepthEstimator,
    EstimatorSpec,
    ImageTransform,
)
from depthtok.depth import ClipQuantiles, DepthEncoding
from depthtok.episodes import EpisodeStore, StoredEpisode, StoredFrames, View
from depthtok.errors import ConfigError, SourceError
from depthtok.origin import FRAMES, frames_of
from depthtok.parts import Part, PartName, PartWriter
from depthtok.store import StoreSpec
from pipelines.changes import ImageWatch
from pipelines.config import AnnotateConfig
from pipelines.device import one_thread
from pipelines.estimators import find
from pipelines.probe import annotated
from pipelines.stage import Advance, Probe, Worker, WorkPart
from pipelines.vida.config import RunConfig
from pipelines.vida.origin import Origin
from pipelines.watch import Watched

VERSION = 2  # 1 gave depth of cameras that an episode does not have
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
        return self._described[0]

    @property
    def origin(self) -> Origin | None:
        """What its weights say they are of, and how that is known; None without weights."""
        return self._described[1]

    @cached_property
    def _described(self) -> tuple[EstimatorSpec, Origin | None]:
        estimator = self.load_estimator()
        return estimator.spec, getattr(estimator, "origin", None)

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
        return store.standing(self.out, self._spec_of(VERSION), self.earlier)

    @property
    def earlier(self) -> list[StoreSpec]:
        """The same store as former versions described it."""
        return [self._spec_of(1)]

    def _spec_of(self, version: int) -> StoreSpec:
        transform = ImageTransform(size=self.size)
        return StoreSpec(
            type="depth", stage="annotate", stage_version=version,
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
            place={
                "episodes": str(self.episodes.path.resolve()),
                **({"weights": str(self.origin)} if self.origin else {}),
            },
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
                           part.digest, part.name, (start, stop),
                           frames_from=frames_of(part.meta, self.cameras))  # fmt: skip

    def watch(self) -> ImageWatch:
        """Tells which parts cannot be made now, because their images are not there."""
        store, files = self.episodes, {}
        for part in store.parts():
            path = store.image_file(part)
            files |= {str(work.name): (path, part) for work in self._pieces(part)}
        return ImageWatch(files)

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
            sink = _Sink(self, rows, writer, _Meter(estimator, advance))
            for block in estimator.estimate(sink.clips):
                sink.take(block)
            sink.close()
            if work.frames_from:
                writer.meta[FRAMES] = dict(work.frames_from)
            writer.meta["device"] = estimator.device
            if self.config.estimator == "dataset" and (counts := sink.not_measured()):
                writer.meta["not_measured"] = counts
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


def _not_measured(clips: Sequence[StoredFrames]) -> dict[str, dict[str, int]]:
    """By camera: how many pixels there were, and how many of them held which placeholder. Cameras
    without one are left out."""
    found: dict[str, dict[str, int]] = {}
    for clip in clips:
        depth = clip.clip_depth
        counts = {"pixels": depth.pixels, **depth.tally}
        total = found.setdefault(clip.camera.name, {})
        for name, count in counts.items():
            total[name] = total.get(name, 0) + count
    return {camera: counts for camera, counts in found.items() if len(counts) > 1}


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
    """Writes an estimator's blocks, clip by clip, as episodes. `clips` is what to estimate: the
    cameras that the episodes are known not to have are left out."""

    def __init__(
        self, stage: AnnotateStage, episodes: list[StoredEpisode], writer: PartWriter,
        advance: _Meter,
    ) -> None:  # fmt: skip
        self.stage, self.episodes, self.writer, self.advance = stage, episodes, writer, advance
        self.transform = ImageTransform(size=stage.size)
        self.places = [
            (row, camera)
            for row, episode in enumerate(episodes)
            for camera in stage.cameras
            if not episode.absent(camera)
        ]
        self.clips = [Watched(episodes[row].frames(camera)) for row, camera in self.places]
        self.left = Counter(row for row, _ in self.places)  # clips of each episode to come
        self.row = 0  # the current episode
        self.failed: int | None = None  # the episode whose other clips are skipped
        self.got = 0  # frames written of the current clip
        self.told = 0  # frames of the current episode reported as done
        self.counts = ClipQuantiles(stage.encoding)
        self.quantiles: dict[str, np.ndarray] = {}  # of the current episode's clips so far
        self._end_episodes()

    def take(self, block: DepthBlock) -> None:
        """Writes a block, or records why its episode failed."""
        started = time.monotonic()
        row, camera = self.places[block.clip]
        if row == self.failed:
            return
        assert row == self.row, f"got a block of episode {row}, but {self.row} is not complete"
        try:
            if block.error:
                raise SourceError(block.error)
            stored = self._stored(block.depth)
        except SourceError as error:  # not caused by the settings: other episodes may fit
            self._fail(f"{camera}: {error.problem}")
            self._end_episodes()
            return
        self.writer.append(depth.array_name(camera), stored)
        self.counts.add(stored)
        self.got += len(stored)
        self._tell(len(stored), time.monotonic() - started)
        if self.got == len(self.episodes[row]):
            self._end_clip(camera, blank=self.clips[block.clip].blank)

    def close(self) -> None:
        """Checks at the end that every episode is complete or has failed."""
        assert self.row == len(self.episodes), f"the estimator stopped in episode {self.row}"

    def not_measured(self) -> dict[str, dict[str, int]]:
        """The placeholders in the data set's own depth, see `_not_measured`."""
        return _not_measured([watched.clip for watched in self.clips])

    def _stored(self, clip: DepthClip) -> np.ndarray:
        values = self.transform.depth(clip.values, clip.kind)
        valid = self.transform.depth(clip.valid.astype(np.float32), clip.kind) > 0.999
        return depth.pack(DepthClip.of(values, clip.kind, valid), self.stage.encoding)

    def _tell(self, frames: int, storing: float = 0.0) -> None:
        self.told += frames
        self.advance(frames, storing)

    def _end_clip(self, camera: str, *, blank: bool) -> None:
        if blank:  # seen only now that all of its frames were: its depth means nothing
            self.writer.take_back(depth.array_name(camera))
        else:
            self.quantiles[camera] = self.counts.values()
        self.got, self.counts = 0, ClipQuantiles(self.stage.encoding)
        self.left[self.row] -= 1
        self._end_episodes()

    def _end_episodes(self) -> None:
        """Ends the current episode if all of its clips are done, and those after it that have no
        clip to wait for."""
        while self.row < len(self.episodes) and not self.left[self.row]:
            if self.quantiles:
                self._end_episode(self.episodes[self.row])
                self._next_episode()
            else:
                self._fail("every camera is absent: its picture is one flat colour throughout")

    def _end_episode(self, episode: StoredEpisode) -> None:
        table = np.full((len(self.stage.cameras), len(QUANTILES)), np.nan, np.float32)
        for place, camera in enumerate(self.stage.cameras):
            if camera in self.quantiles:
                table[place] = self.quantiles[camera]
                continue
            for rows in depth.invalid_rows(len(episode), self.stage.size, self.stage.encoding):
                self.writer.append(depth.array_name(camera), rows)
            self.writer.absent(camera, episode.key.index)
        self._tell(len(episode) * len(self.stage.cameras) - self.told)
        self.writer.end(episode.key.index, len(episode), quantiles=table)

    def _fail(self, reason: str) -> None:
        episode = self.episodes[self.row]
        self.writer.fail(episode.key.index, reason)
        self._tell(len(episode) * len(self.stage.cameras) - self.told)
        self.failed = self.row
        self._next_episode()

    def _next_episode(self) -> None:
        self.row, self.got, self.told, self.quantiles = self.row + 1, 0, 0, {}
        self.counts = ClipQuantiles(self.stage.encoding)
