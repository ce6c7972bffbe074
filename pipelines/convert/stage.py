"""convert: RLDS directory -> EpisodeStore. Every record is read once (`shard.py`)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path

import numpy as np

from depthtok.config import digest, to_json
from depthtok.data import Camera
from depthtok.errors import ConfigError, SourceError, StaleStore, did_you_mean
from depthtok.remote.errors import Refused
from depthtok.sources.cameras import depth_scale
from depthtok.sources.pixels import PixelFormat
from depthtok.sources.rlds import RldsDirectory, Split
from depthtok.sources.sampled_draft import rlds_draft
from depthtok.sources.schema import Schema
from depthtok.sources.shards import Shard
from depthtok.stores import filling
from depthtok.stores.arrays import ArraySpec
from depthtok.stores.episodes import EpisodeStore, View, array_specs
from depthtok.stores.part_writer import PartWriter
from depthtok.stores.parts import PartName, ShardKey, shard_name
from depthtok.stores.spec import StoreSpec, is_store, read_spec
from pipelines.config import ConvertConfig
from pipelines.convert.changes import SHOWN, ShardWatch
from pipelines.convert.description import about_store, overwriting, requested_schema
from pipelines.convert.differences import require_same_store
from pipelines.convert.exported import of_export
from pipelines.convert.gripper import check_gripper
from pipelines.convert.shard import Reading, ShardIndexer
from pipelines.fetches import Fetches, of_files
from pipelines.probe import EPISODES
from pipelines.stage import Advance, Probe, Stage, Worker, WorkPart

VERSION = 2
"""1 kept names of columns and the gripper's convention, and no other meaning; its
`drop_first_if_zero` looked for exact zeros, in all columns."""


@dataclass(frozen=True)
class ConvertStage:
    """One part per shard of the chosen splits."""

    rlds: RldsDirectory
    out: Path
    config: ConvertConfig
    unit: str = "episodes"
    schema_of: Path | None = None  # the store whose schema it has, if none is requested; else `out`
    dropped: dict[str, int] = field(default_factory=dict, compare=False)
    """By part: the steps that its episodes lost to the schema, of parts made in this process."""

    @cached_property
    def schema(self) -> Schema:
        """The requested schema, the shipped one or a draft, checked against the data set."""
        rlds, requested = self.rlds, self.config.schema
        draft = partial(rlds_draft, rlds)
        store = self.schema_of or self.out
        schema = requested_schema(requested, rlds.name, rlds.path, store, draft)
        return schema.fitted(rlds.features, rlds.name)

    @cached_property
    def checks_grippers(self) -> bool:
        """Whether a gripper out of its range is an error. In a store of a former version, which is
        continued as it is, it is a warning."""
        return self.spec.stage_version == VERSION

    @cached_property
    def splits(self) -> list[Split]:
        """The splits to read. Raises `ConfigError` for an unknown one."""
        for name in self.config.split:
            if name not in self.rlds.splits:
                raise ConfigError(
                    f"{self.rlds.path} has no split {name!r}",
                    remedy=did_you_mean(name, list(self.rlds.splits)),
                )
        names = self.config.split or sorted(self.rlds.splits)
        return [self.rlds.splits[name] for name in names]

    @cached_property
    def views(self) -> list[View]:
        """The views of all cameras: images, and depth and segmentation if there are any."""
        views = []
        for camera in self.schema.cameras:
            keys = {"rgb": camera.key, "depth": camera.depth_key}
            keys["segmentation"] = camera.segmentation_key
            for kind, key in keys.items():
                if key is not None:
                    format, depth = PixelFormat.of(self.rlds.features[key]), kind == "depth"
                    unit = camera.depth_unit if depth else None
                    scale = None if unit is None else depth_scale(unit, camera.name)
                    rule = camera.not_measured if depth else None
                    channels = camera.channels if kind == "rgb" else "rgb"
                    views.append(View(camera.name, kind, format, scale, rule, channels))
        return views

    @cached_property
    def view_paths(self) -> list[str]:
        """The feature of every view."""
        cameras = {camera.name: camera for camera in self.schema.cameras}
        names = {"rgb": "key", "depth": "depth_key", "segmentation": "segmentation_key"}
        return [getattr(cameras[view.camera], names[view.kind]) for view in self.views]

    @cached_property
    def current(self) -> StoreSpec:
        """What a new store is. Shards are not part of it: each part says what it was made from."""
        schema, rlds = self.schema, self.rlds
        what = {"schema": schema.to_json(), "copy_images": self.config.copy_images}
        what["split"] = list(self.config.split)
        about = about_store(rlds.name, rlds.version, schema, list(self._cameras()), self.views)
        upstream = digest({path: to_json(f) for path, f in sorted(rlds.features.items())})
        shards = {split.name: len(split.shards) for split in self.splits}
        locations = {"source_root": str(rlds.path.resolve()), **of_export(rlds.path)}
        return StoreSpec("episodes", "convert", VERSION, what, about, upstream, shards, locations)

    @cached_property
    def spec(self) -> StoreSpec:
        return filling.standing(self.out, self.current, self._before_meaning)

    @cached_property
    def _before_meaning(self) -> list[StoreSpec]:
        """The same store as version 1 described it; [] if version 1 would not have made the same.

        Raises `StaleStore` for a store that it made with first steps that are dropped now.
        """
        schema, current = self.schema.to_json_before_meaning(), self.current
        if schema is None:
            self._require_same_first_steps()
            return []
        about = {name: value for name, value in current.about.items() if name != "meaning"}
        about["views"] = [replace(view, not_measured=None).to_json() for view in self.views]
        what = {**current.what, "schema": schema}
        upstream = _fingerprint(self.rlds, self.splits)
        return [replace(current, stage_version=1, what=what, about=about, upstream=upstream)]

    def _require_same_first_steps(self) -> None:
        if not is_store(self.out):
            return
        existing = read_spec(self.out)
        if (existing.stage, existing.stage_version) == ("convert", 1):
            raise StaleStore(
                f"{self.out} was made by an earlier depthtok: its `drop_first_if_zero` kept first "
                "steps that are nearly zero, or zero but for the gripper; they are dropped now",
                remedy=f"`{self._overwriting}` makes it anew; or choose another --out; to go on "
                "with it as it is, use the depthtok that made it",
            )

    @property
    def _overwriting(self) -> str:
        """The command that makes the store anew, with these settings."""
        config, rlds = self.config, self.rlds
        return overwriting(rlds.path, self.out, config.split, config.schema, config.copy_images)

    def _cameras(self) -> Iterator[Camera]:
        for camera in self.schema.cameras:
            height, width, _ = self.rlds.features[camera.key].shape
            yield Camera(
                camera.name, height, width, camera.orientation, camera.depth_key is not None
            )

    def work(self) -> list[WorkPart]:
        """As `Stage.work`. Raises `SourceError` where none of the shards is there."""
        versions = [self.current, *self._before_meaning]
        require_same_store(self.out, self.spec, versions, self._overwriting)
        rlds = self.rlds
        shards = [shard.path for split in self.splits for shard in split.shards]
        if not any(path.exists() for path in shards):
            names: list[str] = []
            with suppress(Refused):  # a web server does not list its folders
                names = sorted(path.name for path in rlds.path.iterdir() if path.suffix != ".json")
            present = f"; there are {', '.join(names[:SHOWN])}" if names else ""
            raise SourceError(
                f"{rlds.path} has none of its {len(shards)} shards (first: {shards[0].name})"
                + present,
                remedy="download them, or name the directory in which they are; files of other "
                "names must be renamed",
            )
        return [self._part(split, shard) for split in self.splits for shard in split.shards]

    def _part(self, split: Split, shard: Shard) -> WorkPart:
        name = PartName(shard_name(split.name, shard.index, shard.of))
        key = ShardKey(self.rlds.name, self.rlds.version, split.name, shard.index, shard.of)
        rows = (shard.index, shard.index + 1)
        return WorkPart(name, key, shard.episodes, 0, source=split.name, rows=rows)

    def watch(self) -> ShardWatch:
        """Tells which parts are of other shards than those that are there now."""
        shards = {str(self._part(s, shard).name): shard for s in self.splits for shard in s.shards}
        return ShardWatch(self.out, self.rlds.path, shards, tuple(self.rlds.notes))

    def arrays(self) -> Mapping[str, ArraySpec]:
        schema = self.schema
        sizes = map(len, (schema.action_dims, schema.proprio_dims, self.views, schema.cameras))
        return array_specs(*sizes)

    def build(self, device: str) -> Worker:
        def fill(work: WorkPart, writer: PartWriter, advance: Advance) -> None:
            writer.roots = (self.rlds.path,)
            indexer = ShardIndexer(self._reading, self._shard(work), writer, advance)
            indexer.read()
            self.dropped[str(work.name)] = indexer.dropped

        return fill

    @cached_property
    def _reading(self) -> Reading:
        copy, checks = self.config.copy_images, self.checks_grippers
        return Reading(self.rlds, self.schema, self.views, self.view_paths, copy, checks)

    def _shard(self, work: WorkPart) -> Shard:
        return self.rlds.splits[work.source].shards[work.rows[0]]

    def fetches(self, parts: Sequence[WorkPart]) -> Fetches | None:
        """What reading the shards of these parts fetches, where they lie elsewhere."""
        shards = [self._shard(work).path for work in parts]
        return of_files(self.rlds.path, shards, later=not self.config.copy_images)

    def probe(self, parts: Sequence[WorkPart]) -> Probe | None:
        """Reads the first episodes of a shard; the stored size of a step follows from its
        columns."""
        probes = (self._measured(self._shard(work)) for work in parts)
        return next((probe for probe in probes if probe.units), None)

    def _measured(self, shard: Shard) -> Probe:
        started, episodes, steps, images = time.monotonic(), 0, 0, 0
        records = self.rlds.records(shard, lambda index, error: None)
        with suppress(SourceError):  # nothing after this point can be read
            for raw in islice(records, EPISODES):
                with suppress(SourceError):
                    spans = [raw.spans(path) for path in self.view_paths]
                    images += sum(int(span.length.sum()) for span in spans)
                    episodes, steps = episodes + 1, steps + len(raw)
        row = sum(
            np.dtype(spec.dtype).itemsize * int(np.prod(spec.row))
            for spec in self.arrays().values()
            if not spec.per_episode
        )
        copied = images if self.config.copy_images else 0
        return Probe(episodes, time.monotonic() - started, row * steps + copied)

    def finish(self) -> None:
        """Computes statistics, once all episodes exist, and checks the gripper by them."""
        episodes = EpisodeStore(self.out)
        episodes.store_statistics()
        check_gripper(episodes, refuse=self.checks_grippers)


_: type[Stage] = ConvertStage


def _fingerprint(rlds: RldsDirectory, splits: list[Split]) -> str:
    """Fingerprint of the data set's metadata as version 1 kept it: names, counts, features."""
    counts = {s.name: [[shard.episodes for shard in s.shards], s.num_bytes] for s in splits}
    features = {path: to_json(feature) for path, feature in sorted(rlds.features.items())}
    return StoreSpec("rlds", "", 1, features, counts, "", {rlds.name: 1}).fingerprint
