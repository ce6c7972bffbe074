"""convert: a data set in files (LeRobot, HDF5 demonstrations) -> EpisodeStore."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

from depthtok.config import digest, to_json
from depthtok.data import Camera
from depthtok.errors import ConfigError, SchemaError, SourceError, did_you_mean
from depthtok.remote.location import list_folders
from depthtok.remote.whole import holding
from depthtok.sources.cameras import depth_scale
from depthtok.sources.files import FileDataset, FileGroup
from depthtok.sources.sampled_draft import files_draft
from depthtok.sources.schema import Schema
from depthtok.stores import filling
from depthtok.stores.arrays import ArraySpec
from depthtok.stores.episodes import EpisodeStore, View, array_specs
from depthtok.stores.frame_files import made_from
from depthtok.stores.origin import MADE_FROM
from depthtok.stores.part_writer import PartWriter
from depthtok.stores.parts import PartName, ShardKey, shard_name
from depthtok.stores.spec import StoreSpec
from pipelines.config import ConvertConfig
from pipelines.convert.description import about_store, overwriting, requested_schema
from pipelines.convert.differences import require_same_store
from pipelines.convert.exported import of_export
from pipelines.convert.files_part import FilesIndexer, FilesReading, ReadView, packed_view
from pipelines.convert.files_probe import probe
from pipelines.convert.files_watch import FilesWatch
from pipelines.convert.gripper import check_gripper
from pipelines.fetches import Fetches, of_files
from pipelines.stage import Advance, Probe, Stage, Worker, WorkPart

VERSION = 2  # that of `convert`: absent cameras are known
RATES_DIFFER = 0.01


@dataclass(frozen=True)
class FilesStage:
    """One part per group of files of the chosen splits."""

    dataset: FileDataset
    out: Path
    config: ConvertConfig
    unit: str = "episodes"
    schema_of: Path | None = None  # the store whose schema it has, if none is requested; else `out`
    dropped: dict[str, int] = field(default_factory=dict, compare=False)
    """By part: the steps that its episodes lost to the schema, of parts made in this process."""

    @cached_property
    def schema(self) -> Schema:
        """The requested schema, the shipped one or a draft, checked against the data set. The same
        name may be that of an RLDS data set, whose schema says nothing of these features."""
        dataset, store = self.dataset, self.schema_of or self.out
        name, features, draft = dataset.name, dataset.features, partial(files_draft, dataset)
        asked = self.config.schema
        schema = requested_schema(asked, name, dataset.path, store, draft, features)
        return schema.fitted(features, name)

    @cached_property
    def keyed_views(self) -> list[tuple[str, View]]:
        """The views of all cameras as the data set has them, and the feature of each. Raises
        `SchemaError` for another unit than the metres of a depth video."""
        views = []
        for camera in self.schema.cameras:
            keys = {"rgb": camera.key, "depth": camera.depth_key}
            keys["segmentation"] = camera.segmentation_key
            for kind, key in keys.items():
                if key is None:
                    continue
                unit = camera.depth_unit if kind == "depth" else None
                if unit is not None and key in self.dataset.metric and unit != "m":
                    raise SchemaError(
                        f"schema {self.schema.name!r}, camera {camera.name!r}: the frames of the "
                        f"depth video {key!r} are decoded to metres, not {unit!r}",
                        remedy='write depth_unit = "m"',
                    )
                view = View(
                    camera.name,
                    kind,
                    self.dataset.pixels(key),
                    None if unit is None else depth_scale(unit, camera.name),
                    camera.not_measured if kind == "depth" else None,
                    camera.channels if kind == "rgb" else "rgb",
                    self.dataset.frames_by(key),
                )
                views.append((key, view))
        return views

    @property
    def _keys(self) -> list[str]:
        return [key for key, _ in self.keyed_views]

    @cached_property
    def views(self) -> list[View]:
        """The views of the store."""
        views = [view for _, view in self.keyed_views]
        return [packed_view(view) for view in views] if self.config.copy_images else views

    @cached_property
    def current(self) -> StoreSpec:
        """What a new store is. Files are not part of it: each part says what it was made from."""
        schema, dataset = self.schema, self.dataset
        what = {"schema": schema.to_json(), "copy_images": self.config.copy_images}
        what["split"] = list(self.config.split)
        cameras = [
            Camera(camera.name, height, width, camera.orientation, camera.depth_key is not None)
            for camera in schema.cameras
            for height, width, _ in [dataset.features[camera.key].shape]
        ]
        about = about_store(dataset.name, dataset.version, schema, cameras, self.views)
        about["format"] = dataset.format
        upstream = digest({path: to_json(f) for path, f in sorted(dataset.features.items())})
        shards = {split: dataset.splits[split] for split in self.splits}
        locations = {"source_root": str(dataset.path.resolve()), **dataset.place}
        locations |= of_export(dataset.path)
        return StoreSpec("episodes", "convert", VERSION, what, about, upstream, shards, locations)

    @cached_property
    def spec(self) -> StoreSpec:
        return filling.standing(self.out, self.current, [])

    @cached_property
    def splits(self) -> list[str]:
        """The splits to read. Raises `ConfigError` for an unknown one."""
        for name in self.config.split:
            if name not in self.dataset.splits:
                raise ConfigError(
                    f"{self.dataset.path} has no split {name!r}",
                    remedy=did_you_mean(name, list(self.dataset.splits)),
                )
        return list(self.config.split) or sorted(self.dataset.splits)

    @cached_property
    def groups(self) -> dict[str, FileGroup]:
        """By the name of their part, in order."""
        groups = [g for split in self.splits for g in self.dataset.groups(split, self._keys)]
        return {str(PartName(shard_name(g.split, g.index, g.of))): g for g in groups}

    def work(self) -> list[WorkPart]:
        """As `Stage.work`. Raises `SourceError` where none of the data files is there."""
        config, dataset = self.config, self.dataset
        command = overwriting(
            dataset.path, self.out, config.split, config.schema, config.copy_images
        )
        require_same_store(self.out, self.spec, [self.current], command)
        groups = list(self.groups.values())
        if not groups:
            listed = ", ".join(self.splits)
            raise SourceError(
                f"{dataset.path} lists no episodes in {listed}: there is nothing to convert",
                remedy="name another --split, or download the data set again",
            )
        list_folders([path for group in groups for path in group.paths(dataset.path)])
        if not any((dataset.path / group.files[0]).exists() for group in groups):
            raise SourceError(
                f"{dataset.path} has none of its {len(groups)} data files (first: "
                f"{groups[0].files[0]})",
                remedy="download them, or name the directory in which they are",
            )
        return [self._part(group) for group in groups]

    def _part(self, group: FileGroup) -> WorkPart:
        name = PartName(shard_name(group.split, group.index, group.of))
        dataset = self.dataset
        key = ShardKey(dataset.name, dataset.version, group.split, group.index, group.of)
        rows = (group.index, group.index + 1)
        return WorkPart(name, key, len(group.episodes), 0, source=group.split, rows=rows)

    def watch(self) -> FilesWatch:
        """Tells which parts are of other files than those that are there now."""
        notes = [*self.dataset.notes, *self._rates()]
        return FilesWatch(self.out, self.dataset, self.groups, self._keys, notes)

    def _rates(self) -> Iterator[str]:
        """What to say where the schema and the data set have two rates."""
        ours, theirs = self.schema.fps, self.dataset.fps
        if ours and theirs and abs(ours / theirs - 1) > RATES_DIFFER:
            yield (
                f"the schema {self.schema.name!r} says {ours:g} steps a second, the data set "
                f"itself {theirs:g}: the schema's is recorded; correct it if it is wrong"
            )

    def arrays(self) -> Mapping[str, ArraySpec]:
        schema = self.schema
        sizes = map(len, (schema.action_dims, schema.proprio_dims, self.views, schema.cameras))
        return array_specs(*sizes)

    def build(self, device: str) -> Worker:
        reading = self._reading()

        def fill(work: WorkPart, writer: PartWriter, advance: Advance) -> None:
            group = self.groups[str(work.name)]
            writer.roots = (self.dataset.path,)
            with holding(group.paths(self.dataset.path)) as paths:
                files = made_from(paths)
                indexer = FilesIndexer(reading, replace(group, fixed=paths), writer, advance)
                indexer.read()
            tasks = sorted(indexer.tasks)
            writer.meta[MADE_FROM] = {
                **files,
                "episodes": len(group.episodes),
                "tasks": tasks,
                "metadata": self.dataset.stated(group, reading.keys, tasks),
            }
            self.dropped[str(work.name)] = indexer.dropped

        return fill

    def _reading(self) -> FilesReading:
        """With open readers, which stay with their process."""
        dataset, copy = self.dataset, self.config.copy_images
        views = [ReadView.of(key, view) for key, view in self.keyed_views]
        return FilesReading(dataset, self.schema, views, self.views, copy)

    def fetches(self, parts: Sequence[WorkPart]) -> Fetches | None:
        """What reading the files of these parts fetches, where they lie elsewhere."""
        root = self.dataset.path
        groups = (self.groups[str(part.name)] for part in parts)
        files = {path: None for group in groups for path in group.paths(root)}  # some are shared
        return of_files(root, files, later=not self.config.copy_images)

    def probe(self, parts: Sequence[WorkPart]) -> Probe | None:
        """Reads the first episodes of a group, and packs some of their frames."""
        groups = (self.groups[str(part.name)] for part in parts)
        probes = (probe(self._reading(), group, self.arrays()) for group in groups)
        return next((measured for measured in probes if measured), None)

    def finish(self) -> None:
        """Computes statistics, once all episodes exist, and checks the gripper by them."""
        episodes = EpisodeStore(self.out)
        episodes.store_statistics()
        check_gripper(episodes, refuse=True)


_: type[Stage] = FilesStage
