"""annotate: EpisodeStore -> DepthStore."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from depthtok.config import to_json
from depthtok.data import SHIFT, DepthEstimator, EstimatorSpec, ImageTransform
from depthtok.errors import ConfigError, SourceError
from depthtok.stores import depth, filling
from depthtok.stores.arrays import STREAM_SHARD, ArraySpec
from depthtok.stores.depth import DepthEncoding, DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.frame_files import SizedFile
from depthtok.stores.lineage import exported_from
from depthtok.stores.origin import ABSENT, FRAMES, INTRINSICS, inputs_of
from depthtok.stores.part_writer import PartWriter
from depthtok.stores.parts import Part, PartName
from depthtok.stores.spec import StoreSpec
from depthtok.stores.stored_episode import StoredEpisode
from pipelines.annotate.exported import estimated_before
from pipelines.annotate.focal import require_focal
from pipelines.annotate.medians import median_depths, unlikely
from pipelines.annotate.part import DepthLayout, EpisodeSink, FrameMeter, cut
from pipelines.annotate.recorded import recorded_estimator
from pipelines.annotate.watch import Watched
from pipelines.config import AnnotateConfig
from pipelines.convert.changes import ImageWatch
from pipelines.depth.fetched import weights_of
from pipelines.depth.gem.config import poses
from pipelines.depth.origin import WeightsOrigin
from pipelines.depth.registry import DatasetDepth, find
from pipelines.depth.vida.config import RunConfig
from pipelines.device import one_thread
from pipelines.probe import packed_bytes, timed
from pipelines.stage import Advance, Probe, Stage, Worker, WorkPart
from pipelines.upstream import inherit, require_somewhere

VERSION = 2  # 1 gave depth of cameras that an episode does not have
LARGEST_SHARDS = 4 << 30  # bytes, over all cameras
BY_ESTIMATOR = {"graphs", "attention", "kind", "shift", "focal_px", "sky", "steady", "pose"}
"""Settings that only the estimator records, so that old stores go on."""
PART_FRAMES = 2048  # steps: a trade-off between work lost to a kill and the number of files


@dataclass(frozen=True)
class AnnotateStage:
    """Depth for the chosen cameras of every episode. `weights` is the file of the estimator's
    weights; None searches the usual places."""

    episodes: EpisodeStore
    out: Path
    config: AnnotateConfig
    device: str
    partial: bool = False
    weights: Path | None = None
    unit: str = "frames"

    @cached_property
    def cameras(self) -> tuple[str, ...]:
        """The chosen cameras, or all; with `dataset` all that have depth. Raises `ConfigError`
        where none has."""
        episodes, names = self.episodes, self.config.camera
        if names:
            chosen = tuple(episodes.camera(name).name for name in names)
            require_somewhere(episodes, chosen)
            return chosen
        if self.config.estimator != "dataset":
            return tuple(episodes.cameras)
        with_depth = tuple(name for name, camera in episodes.cameras.items() if camera.has_depth)
        if not with_depth:
            raise ConfigError(
                f"{episodes.path} has no depth of its own",
                remedy="choose an estimator that needs RGB only: --estimator vits",
            )
        return with_depth

    @cached_property
    def estimator(self) -> EstimatorSpec:
        """The estimator's specification. Determined once, by the driver; workers check theirs."""
        return self._described[0]

    @property
    def origin(self) -> WeightsOrigin | None:
        """What its weights say they are of, and how that is known; None without weights."""
        return self._described[1]

    @property
    def _by_focal_length(self) -> bool:
        """Whether metres are made with the focal lengths that the episodes have."""
        return find(self.config.estimator).needs_focal and not self.config.focal_px

    @cached_property
    def _described(self) -> tuple[EstimatorSpec, WeightsOrigin | None]:
        _ = self.cameras  # a wrong name is said before weights are looked for
        if self._by_focal_length:
            require_focal(self.episodes, self.cameras)
        recorded = recorded_estimator(self.out)
        estimator = self.load_estimator(dict(recorded.settings) if recorded else None)
        return estimator.spec, getattr(estimator, "origin", None)

    def load_estimator(self, made_with: Mapping[str, str] | None = None) -> DepthEstimator:
        """The estimator, ready to use. What its store is `made_with`, if anything, is settled:
        raises `ConfigError` where this machine cannot do so."""
        config = self.config
        run = RunConfig(
            input_size=config.input_size or None,
            precision=None if config.precision == "auto" else config.precision,
            compile=config.compile,
            graphs=config.graphs,
            frame=config.frame,
            attention=config.attention,
            pose=poses(config.pose, config.estimator),
        )
        run = run if made_with is None else run.like(made_with)
        device, entry = torch.device(self.device), find(config.estimator)
        entry.require_taken(run)
        estimator = entry.build(self.weights, run, device)
        before = estimated_before(self.episodes) if isinstance(estimator, DatasetDepth) else None
        return DatasetDepth(before) if before else estimator

    @cached_property
    def size(self) -> tuple[int, int]:
        """Height and width of the stored depth, px. Raises `ConfigError` where a part's shard
        would take more than `LARGEST_SHARDS` bytes of memory."""
        size = self._chosen_size()
        needed = math.prod(size) * np.dtype(self.encoding.dtype).itemsize * STREAM_SHARD
        if needed * len(self.cameras) > LARGEST_SHARDS:
            raise ConfigError(
                f"depth of {size[0]} x {size[1]} px for {len(self.cameras)} cameras takes "
                f"{needed * len(self.cameras) / 1e9:.1f} GB of memory, more than "
                f"{LARGEST_SHARDS / 1e9:.1f}: {STREAM_SHARD} frames of each are written at once",
                remedy="give a smaller --size (the default is 256), or annotate each --camera into "
                "its own --out",
            )
        return size

    def _chosen_size(self) -> tuple[int, int]:
        if self.config.size:
            return (self.config.size, self.config.size)
        sizes = {(c.height, c.width) for c in map(self.episodes.camera, self.cameras)}
        height, width = sizes.pop()
        if sizes or height is None or width is None:
            raise ConfigError(
                "the cameras have frames of different sizes",
                remedy="give one --size for all, or annotate each --camera into its own --out",
            )
        return height, width

    @cached_property
    def encoding(self) -> DepthEncoding:
        """How depth is encoded in the store."""
        if self.config.estimator != "dataset":
            return DepthEncoding.FLOAT16
        views = [self.episodes.views[self.episodes.view_index(c, "depth")] for c in self.cameras]
        millimetres = all(view.in_millimetres for view in views)
        return DepthEncoding.UINT16_MM if millimetres else DepthEncoding.FLOAT32

    @cached_property
    def spec(self) -> StoreSpec:
        return filling.standing(self.out, self._spec_of(VERSION), self.earlier)

    @property
    def earlier(self) -> list[StoreSpec]:
        """The same store as former versions described it, the oldest first."""
        return [self._spec_of(1), self._spec_of(VERSION)]  # the last but for names of dimensions

    def _spec_of(self, version: int) -> StoreSpec:
        episodes = self.episodes
        settings = to_json(self.config)
        what = {key: settings[key] for key in settings if key not in BY_ESTIMATOR}
        what["estimator"] = to_json(self.estimator)
        what["part_frames"] = PART_FRAMES
        about = {
            "kind": self.estimator.kind.value,
            "encoding": self.encoding.value,
            "error": self.encoding.error,
            "cameras": list(self.cameras),
            "size": list(self.size),
            "transform": ImageTransform(size=self.size).to_json(),
            "dataset": episodes.about["dataset"],
            "fps": episodes.fps,
        }
        about |= {SHIFT: shift} if (shift := self.estimator.shift) is not None else {}
        locations = {"episodes": str(episodes.path.resolve())}
        locations |= weights_of(self.origin, self.weights, self.config.estimator)
        locations |= exported_from(episodes)
        source = episodes.fingerprint, episodes.spec.shards
        return StoreSpec("depth", "annotate", version, what, about, *source, locations)

    def work(self) -> list[WorkPart]:
        self.episodes.require_complete(partial=self.partial)
        self.episodes.require_source()
        return [work for part in self.episodes.parts() for work in self._pieces(part)]

    def _pieces(self, part: Part) -> Iterator[WorkPart]:
        cuts = cut(part.frames.tolist(), PART_FRAMES)
        shard = PartName.of(part.name).shard
        kinds = ("rgb", ABSENT) + (("depth",) if self.config.estimator == "dataset" else ())
        kinds += (INTRINSICS,) if self._by_focal_length else ()
        inputs = [f"{camera}/{kind}" for camera in self.cameras for kind in kinds]
        digests = inputs_of(part, list(self.episodes.cameras), inputs)
        for piece, rows in enumerate(cuts):
            name, episodes = PartName(shard, piece, len(cuts)), rows[1] - rows[0]
            frames = int(part.frames[slice(*rows)].sum()) * len(self.cameras)
            source = part.digest, part.name
            yield WorkPart(name, part.shard, episodes, frames, *source, rows, made_of=digests)

    def watch(self) -> ImageWatch:
        """Tells which parts cannot be made now, because their images are not there."""
        parts = self.episodes.parts()
        pieces = {str(work.name): (part, work) for part in parts for work in self._pieces(part)}
        return ImageWatch(lambda name: self._files(*pieces[name]))

    def _files(self, part: Part, work: WorkPart) -> list[SizedFile]:
        """In which the frames lie that a piece of a part is made from."""
        kind = "depth" if self.config.estimator == "dataset" else "rgb"
        views = [self.episodes.view_index(camera, kind) for camera in self.cameras]
        start, stop = (int(part.frames[:row].sum()) for row in work.rows)
        return self.episodes.files_with(part, views, start, stop)

    def arrays(self) -> Mapping[str, ArraySpec]:
        return depth.array_specs(self.cameras, self.size, self.encoding)

    def build(self, device: str) -> Worker:
        """As `Stage.build`. Raises `ConfigError` where this estimator is not the store's."""
        one_thread()
        estimator = self.load_estimator(dict(self.estimator.settings))
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
            episodes = [StoredEpisode(self.episodes, part, row) for row in range(*work.rows)]
            sink = EpisodeSink(self._layout, episodes, writer, FrameMeter(estimator, advance))
            for block in estimator.estimate(sink.clips):
                sink.take(block)
            sink.close()
            if work.made_of:
                writer.meta[FRAMES] = dict(work.made_of)
            writer.meta["device"] = estimator.device
            if self.config.estimator == "dataset" and (counts := sink.not_measured()):
                writer.meta["not_measured"] = counts
            if (steadiness := getattr(estimator, "steadiness", None)) is not None:
                figures = steadiness.take()  # also where there are none: the next part begins anew
                writer.meta |= {"steadied": figures} if figures["pairs"] else {}
            if estimator.degraded:
                writer.meta["degraded"] = "out of memory: batches were halved, low bits may differ"

        return fill

    @property
    def _layout(self) -> DepthLayout:
        return DepthLayout(self.cameras, self.size, self.encoding)

    def median_depth(self, parts: Sequence[Part]) -> tuple[dict[str, float], list[str]]:
        """As `MakesDepth.median_depth`."""
        return self.judged(median_depths(DepthStore(self.out), parts))

    def judged(self, medians: dict[str, float]) -> tuple[dict[str, float], list[str]]:
        """Median depths of its estimator, with warnings about them."""
        of_data_set = self.config.estimator == "dataset"
        return medians, unlikely(medians, self.episodes, of_data_set=of_data_set)

    def probe(self, parts: Sequence[WorkPart]) -> Probe | None:
        """Estimates and packs the first frames of an episode."""
        one_thread()
        estimator, layout = self.load_estimator(dict(self.estimator.settings)), self._layout

        def make(work: WorkPart, row: int, frames: int) -> tuple[int, int]:
            part = self.episodes.part(work.source)
            episode = StoredEpisode(self.episodes, part, work.rows[0] + row)
            present = [name for name in self.cameras if not episode.absent(name)]
            if not present:
                return 0, 0
            clip = Watched(episode.frames(present[0]), limit=frames)
            blocks = list(estimator.estimate([clip]))
            estimates = [block.depth for block in blocks if block.depth is not None]
            with suppress(SourceError):
                if len(estimates) == len(blocks):
                    packed = [depth.pack(layout.resized(e), self.encoding) for e in estimates]
                    return sum(map(len, packed)), packed_bytes(np.concatenate(packed))
            return 0, 0

        return timed(make, parts)

    def finish(self) -> None:
        """Does nothing: the store is complete once all parts exist."""


_: type[Stage] = AnnotateStage
