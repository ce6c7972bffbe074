"""convert: RLDS directory -> EpisodeStore. Every record is read once; no image is decoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from depthtok import store
from depthtok.arrays import ArraySpec
from depthtok.config import to_json
from depthtok.data import Camera
from depthtok.episodes import PACKED, EpisodeStore, View, array_specs, write_instructions
from depthtok.errors import (
    ConfigError,
    CorruptRecord,
    SchemaError,
    SourceError,
    StaleStore,
    did_you_mean,
)
from depthtok.images import ImageFiles
from depthtok.parts import PartName, PartWriter, ShardKey, shard_name
from depthtok.sources.cameras import DEPTH_UNITS
from depthtok.sources.episode import RawEpisode
from depthtok.sources.pixels import PixelFormat
from depthtok.sources.rlds import RldsDirectory, Shard, Split
from depthtok.sources.schema import Schema
from depthtok.store import StoreSpec
from pipelines.config import ConvertConfig
from pipelines.gripper import judge_gripper, require_gripper
from pipelines.stage import Advance, Worker, WorkPart, recording_failures

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

    @cached_property
    def schema(self) -> Schema:
        """The requested schema, or the shipped one for this data set, checked against it."""
        name = self.config.schema
        found = Schema.load(name) if name else Schema.find(self.rlds.name)
        if found is None:
            raise SchemaError(
                f"no shipped schema fits the data set {self.rlds.name!r}",
                remedy=f"`depthtok inspect {self.rlds.path} --draft` prints one: save it as .toml "
                "file, check it, and give it to `depthtok convert` with --schema FILE",
            )
        return found.fitted(self.rlds.features, self.rlds.name)

    @cached_property
    def judges_grippers(self) -> bool:
        """Whether a gripper out of its range is an error; a store of a former version is gone on
        with as it is, and warned about."""
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
        found = []
        for camera in self.schema.cameras:
            keys = {"rgb": camera.key, "depth": camera.depth_key}
            keys["segmentation"] = camera.segmentation_key
            for kind, key in keys.items():
                if key is not None:
                    scale = DEPTH_UNITS[camera.depth_unit] if kind == "depth" else None
                    format = PixelFormat.of(self.rlds.features[key])
                    found.append(View(camera.name, kind, format, scale))
        return found

    @cached_property
    def view_paths(self) -> list[str]:
        """The feature of every view."""
        cameras = {camera.name: camera for camera in self.schema.cameras}
        names = {"rgb": "key", "depth": "depth_key", "segmentation": "segmentation_key"}
        return [getattr(cameras[view.camera], names[view.kind]) for view in self.views]

    @cached_property
    def spec(self) -> StoreSpec:
        schema, rlds = self.schema, self.rlds
        now = StoreSpec(
            type="episodes", stage="convert", stage_version=VERSION,
            what={
                "schema": schema.to_json(),
                "copy_images": self.config.copy_images,
                "split": list(self.config.split),
            },
            about={
                "dataset": rlds.name,
                "version": rlds.version,
                "fps": schema.fps,
                "cameras": [asdict(camera) for camera in self._cameras()],
                "views": [view.to_json() for view in self.views],
                "action_dim": len(schema.action_dims),
                "proprio_dim": len(schema.proprio_dims),
                "action_names": list(schema.action_dims),
                "proprio_names": list(schema.proprio_dims),
                "gripper": list(schema.gripper_dims),
                "gripper_convention": schema.gripper,
                "meaning": schema.meaning.to_json(),
            },
            upstream=_fingerprint(rlds, self.splits),
            shards={split.name: len(split.shards) for split in self.splits},
            place={"source_root": str(rlds.path.resolve())},
        )  # fmt: skip
        return store.standing(self.out, now, self._before_meaning(now))

    def _before_meaning(self, now: StoreSpec) -> list[StoreSpec]:
        """The same store as version 1 described it; [] if version 1 would not have made the same.

        Raises `StaleStore` for a store that it made with first steps that are dropped now.
        """
        schema = self.schema.to_json_before_meaning()
        if schema is None:
            self._require_same_first_steps()
            return []
        about = {name: value for name, value in now.about.items() if name != "meaning"}
        what = {**now.what, "schema": schema}
        return [replace(now, stage_version=1, what=what, about=about)]

    def _require_same_first_steps(self) -> None:
        if not store.is_store(self.out):
            return
        found = store.read_spec(self.out)
        if (found.stage, found.stage_version) == ("convert", 1):
            raise StaleStore(
                f"{self.out} was made by an earlier depthtok: its `drop_first_if_zero` kept first "
                "steps that are nearly zero, or zero but for the gripper; they are dropped now",
                remedy="choose another --out, or delete that directory first; to go on with it as "
                "it is, use the depthtok that made it",
            )

    def _cameras(self) -> Iterator[Camera]:
        for camera in self.schema.cameras:
            height, width, _ = self.rlds.features[camera.key].shape
            yield Camera(
                camera.name, height, width, camera.orientation, camera.depth_key is not None
            )

    def work(self) -> list[WorkPart]:
        rlds = self.rlds
        shards = [shard.path for split in self.splits for shard in split.shards]
        if not any(path.exists() for path in shards):
            raise SourceError(
                f"{rlds.path} has none of its {len(shards)} shards (first: {shards[0].name})",
                remedy="download them, or give the data set's new place with --source-root DIR",
            )
        return [
            WorkPart(
                PartName(shard_name(split.name, shard.index, shard.of)),
                ShardKey(rlds.name, rlds.version, split.name, shard.index, shard.of),
                shard.episodes, 0, source=split.name, rows=(shard.index, shard.index + 1),
            )
            for split in self.splits
            for shard in split.shards
        ]  # fmt: skip

    def arrays(self) -> Mapping[str, ArraySpec]:
        schema = self.schema
        sizes = map(len, (schema.action_dims, schema.proprio_dims, self.views, schema.cameras))
        return array_specs(*sizes)

    def build(self, device: str) -> Worker:
        def fill(work: WorkPart, writer: PartWriter, advance: Advance) -> None:
            shard = self.rlds.splits[work.source].shards[work.rows[0]]
            writer.roots = (self.rlds.path,)
            _Shard(self, shard, writer, advance).read()

        return fill

    def finish(self) -> None:
        """Computes statistics, once all episodes exist, and judges the gripper by them."""
        episodes = EpisodeStore(self.out)
        episodes.store_statistics()
        judge_gripper(episodes, refuse=self.judges_grippers)


def _fingerprint(rlds: RldsDirectory, splits: list[Split]) -> str:
    """Fingerprint of the data set's metadata: names, counts, features. The bytes have CRCs."""
    counts = {s.name: [[shard.episodes for shard in s.shards], s.num_bytes] for s in splits}
    features = {path: to_json(feature) for path, feature in sorted(rlds.features.items())}
    return StoreSpec("rlds", "", 1, features, counts, "", {rlds.name: 1}).fingerprint


class _Shard:
    """Indexes one shard."""

    def __init__(
        self, stage: ConvertStage, shard: Shard, writer: PartWriter, advance: Advance
    ) -> None:
        self.stage, self.shard, self.writer, self.advance = stage, shard, writer, advance
        self.instructions: dict[tuple[str, ...], int] = {}
        self.left_out: dict[str, list[int]] = {}
        self.images, self.packed = ImageFiles(), None
        self.done: set[int] = set()

    def read(self) -> None:
        """Fills the part. All intact episodes of a damaged shard are kept."""
        copy = self.stage.config.copy_images
        source = self.shard.path.relative_to(self.stage.rlds.path).as_posix()
        self.writer.meta["source"] = None if copy else source
        try:
            if copy:
                self.packed = (self.writer.directory / PACKED).open("wb")
            self._read_records()
        finally:
            if self.packed:
                self.packed.close()
        if self.left_out:
            self.writer.meta["left_out"] = self.left_out
        write_instructions(self.writer.directory, list(self.instructions))

    def _read_records(self) -> None:
        try:
            for raw in self.stage.rlds.records(self.shard, self._bad):
                with recording_failures(self.writer, raw.index):
                    self._episode(raw)
                self._count(raw.index)
        except CorruptRecord as error:  # nothing after this point can be read
            stated = range(self.shard.episodes)
            lost = [index for index in stated if index not in self.done]
            for index in lost or [self.shard.episodes]:  # all were read: there is one too many
                self._bad(index, error)

    def _bad(self, index: int, error: CorruptRecord) -> None:
        self.writer.fail(index, error.problem)
        self._count(index)

    def _count(self, index: int) -> None:
        self.done.add(index)
        self.advance(1)

    def _episode(self, raw: RawEpisode) -> None:
        schema, writer = self.stage.schema, self.writer
        keep = schema.keep(raw)
        steps = len(range(*keep.indices(len(raw))))
        texts = schema.instructions_of(raw)
        if reason := schema.left_out(raw, keep, texts):
            self.left_out.setdefault(reason, []).append(raw.index)
            return
        if steps == 0:
            raise CorruptRecord("the episode has no steps (the schema's `keep` leaves none)")
        action = schema.action(raw, keep)[keep]
        if self.stage.judges_grippers:
            where = f"{self.shard.path.name}, episode {raw.index}"
            require_gripper(action[:, schema.gripper_dims], schema.gripper, where)
        texts = texts * len(raw) if len(texts) == 1 else texts
        numbers = [self.instructions.setdefault(text, len(self.instructions)) for text in texts]
        writer.append("action", action)
        writer.append("proprio", schema.proprio(raw, keep)[keep])
        writer.append("instruction", np.asarray(numbers, np.uint32)[keep])
        intrinsics = self._intrinsics(raw)
        spans = [self._spans(raw, path, keep) for path in self.stage.view_paths]
        writer.append("images", np.stack(spans, axis=1))
        writer.end(raw.index, steps, intrinsics=intrinsics)

    def _spans(self, raw: RawEpisode, path: str, keep: slice) -> np.ndarray:
        """uint32[T, 4]: the location of every frame of a view."""
        spans = raw.spans(path)
        offset, length, crc = spans.offset[keep], spans.length[keep], spans.crc32c[keep]
        if self.packed:
            offset = self._pack(offset, length, crc)
        low, high = (offset & 0xFFFFFFFF).astype(np.uint32), (offset >> 32).astype(np.uint32)
        return np.stack([low, high, length, crc], axis=1)

    def _pack(self, offset: np.ndarray, length: np.ndarray, crc: np.ndarray) -> np.ndarray:
        """Copies frames to the part's own file; returns their locations there."""
        start = self.packed.tell()
        for place, size, check in zip(offset.tolist(), length.tolist(), crc.tolist(), strict=True):
            self.packed.write(self.images.read(self.shard.path, place, size, check))
        ends = np.cumsum(length.astype(np.uint64))
        return start + ends - length

    def _intrinsics(self, raw: RawEpisode) -> np.ndarray:
        found = (self.stage.schema.intrinsics(raw, c.name) for c in self.stage.schema.cameras)
        return np.array([row or [np.nan] * 9 for row in found], np.float32)
