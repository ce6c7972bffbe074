"""convert: RLDS directory -> EpisodeStore. Every record is read once. No image is decoded, but for
those that by their sizes and checksums may show nothing at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from depthtok import absent, store
from depthtok.arrays import ArraySpec
from depthtok.config import digest, to_json
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
from depthtok.origin import FRAMES, MADE_FROM, FrameDigests
from depthtok.parts import PartName, PartWriter, ShardKey, shard_name
from depthtok.sources.cameras import depth_scale
from depthtok.sources.episode import RawEpisode, Spans
from depthtok.sources.framing import ShardDigest
from depthtok.sources.pixels import PixelFormat
from depthtok.sources.rlds import RldsDirectory, Split
from depthtok.sources.schema import Schema
from depthtok.sources.shards import Shard
from depthtok.store import StoreSpec
from pipelines.changes import ShardWatch
from pipelines.config import ConvertConfig
from pipelines.gripper import judge_gripper, require_gripper
from pipelines.overwrite import require_same_store
from pipelines.probe import converted
from pipelines.stage import Advance, Probe, Worker, WorkPart, recording_failures

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
                    format, depth = PixelFormat.of(self.rlds.features[key]), kind == "depth"
                    scale = depth_scale(camera.depth_unit, camera.name) if depth else None
                    rule = camera.not_measured if depth else None
                    channels = camera.channels if kind == "rgb" else "rgb"
                    found.append(View(camera.name, kind, format, scale, rule, channels))
        return found

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
        return StoreSpec(
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
            upstream=digest({path: to_json(f) for path, f in sorted(rlds.features.items())}),
            shards={split.name: len(split.shards) for split in self.splits},
            place={"source_root": str(rlds.path.resolve())},
        )  # fmt: skip

    @cached_property
    def spec(self) -> StoreSpec:
        return store.standing(self.out, self.current, self._before_meaning)

    @cached_property
    def _before_meaning(self) -> list[StoreSpec]:
        """The same store as version 1 described it; [] if version 1 would not have made the same.

        Raises `StaleStore` for a store that it made with first steps that are dropped now.
        """
        schema, now = self.schema.to_json_before_meaning(), self.current
        if schema is None:
            self._require_same_first_steps()
            return []
        about = {name: value for name, value in now.about.items() if name != "meaning"}
        about["views"] = [replace(view, not_measured=None).to_json() for view in self.views]
        what = {**now.what, "schema": schema}
        upstream = _fingerprint(self.rlds, self.splits)
        return [replace(now, stage_version=1, what=what, about=about, upstream=upstream)]

    def _require_same_first_steps(self) -> None:
        if not store.is_store(self.out):
            return
        found = store.read_spec(self.out)
        if (found.stage, found.stage_version) == ("convert", 1):
            raise StaleStore(
                f"{self.out} was made by an earlier depthtok: its `drop_first_if_zero` kept first "
                "steps that are nearly zero, or zero but for the gripper; they are dropped now",
                remedy="make it again with --overwrite, or choose another --out; to go on with it "
                "as it is, use the depthtok that made it",
            )

    def _cameras(self) -> Iterator[Camera]:
        for camera in self.schema.cameras:
            height, width, _ = self.rlds.features[camera.key].shape
            yield Camera(
                camera.name, height, width, camera.orientation, camera.depth_key is not None
            )

    def work(self) -> list[WorkPart]:
        require_same_store(self.out, self.spec, [self.current, *self._before_meaning])
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

    def watch(self) -> ShardWatch:
        """Tells which parts are of other shards than those that are there now."""
        shards = {
            str(PartName(shard_name(split.name, shard.index, shard.of))): shard
            for split in self.splits
            for shard in split.shards
        }
        return ShardWatch(self.out, self.rlds.path, shards, tuple(self.rlds.notes))

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

    def probe(self, parts: Sequence[WorkPart]) -> Probe | None:
        return converted(self, parts)

    def finish(self) -> None:
        """Computes statistics, once all episodes exist, and judges the gripper by them."""
        episodes = EpisodeStore(self.out)
        episodes.store_statistics()
        judge_gripper(episodes, refuse=self.judges_grippers)


def _fingerprint(rlds: RldsDirectory, splits: list[Split]) -> str:
    """Fingerprint of the data set's metadata as version 1 kept it: names, counts, features."""
    counts = {s.name: [[shard.episodes for shard in s.shards], s.num_bytes] for s in splits}
    features = {path: to_json(feature) for path, feature in sorted(rlds.features.items())}
    return StoreSpec("rlds", "", 1, features, counts, "", {rlds.name: 1}).fingerprint


class _Flags:
    """What flags of the data set say of cameras, held against the pictures.

    `against` counts, by camera, the episodes whose flag contradicts them: `seen` is said to be
    absent and shows something, `blank` is said to be there and is one flat colour.
    """

    def __init__(self, schema: Schema) -> None:
        self._keys = {camera.name: camera.present_key for camera in schema.cameras}
        self.against: dict[str, dict[str, int]] = {}

    def absent(self, raw: RawEpisode, camera: str, *, blank: bool) -> bool:
        """Whether the camera is absent: by its picture, or by its flag."""
        key = self._keys[camera]
        if key is None:
            return blank
        present = bool(np.any(raw.values(key)))
        if present == blank:
            counts = self.against.setdefault(camera, {"seen": 0, "blank": 0})
            counts["blank" if blank else "seen"] += 1
        return blank or not present


class _Shard:
    """Indexes one shard."""

    def __init__(
        self, stage: ConvertStage, shard: Shard, writer: PartWriter, advance: Advance
    ) -> None:
        self.stage, self.shard, self.writer, self.advance = stage, shard, writer, advance
        self.instructions: dict[tuple[str, ...], int] = {}
        self.left_out: dict[str, list[int]] = {}
        self.images, self.packed = ImageFiles(), None
        self.framing = ShardDigest()
        self.frames = FrameDigests(view.name for view in stage.views)
        self.done: set[int] = set()
        self.flags = _Flags(stage.schema)

    def read(self) -> None:
        """Fills the part. All intact episodes of a damaged shard are kept."""
        copy = self.stage.config.copy_images
        source = self.shard.path.relative_to(self.stage.rlds.path).as_posix()
        self.writer.meta["source"] = None if copy else source
        try:
            if copy:
                self.packed = (self.writer.directory / PACKED).open("wb")
            if self.shard.state != "empty":
                self._read_records()
                self.framing.complete(self.shard.path)
        finally:
            if self.packed:
                self.packed.close()
        if self.flags.against:
            self.writer.meta["flags_against_pictures"] = self.flags.against
        stated = {"episodes": self.shard.episodes}
        self.writer.meta[MADE_FROM] = {**self.framing.to_json(), **stated}
        self.writer.meta[FRAMES] = self.frames.to_json()
        if self.left_out:
            self.writer.meta["left_out"] = self.left_out
        write_instructions(self.writer.directory, list(self.instructions))

    def _read_records(self) -> None:
        try:
            for raw in self.stage.rlds.records(self.shard, self._bad, self.framing):
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
        spans = [raw.spans(path)[keep] for path in self.stage.view_paths]
        placed = [self._placed(found) for found in spans]
        writer.append("images", np.stack(placed, axis=1))
        missing = self._absent(raw, spans)
        writer.end(raw.index, steps, intrinsics=intrinsics)
        for camera in missing:
            writer.absent(camera, raw.index)
        self.frames.add(raw.index, placed)

    def _absent(self, raw: RawEpisode, spans: list[Spans]) -> list[str]:
        """The cameras that the episode does not have."""
        missing = []
        for view, found in zip(self.stage.views, spans, strict=True):
            if view.kind == "rgb":
                blank = absent.suspect(found.length, found.crc32c, view.format.shape)
                blank = blank and absent.blank(raw.bytes_at(found), view.format)
                if self.flags.absent(raw, view.camera, blank=blank):
                    missing.append(view.camera)
        return missing

    def _placed(self, spans: Spans) -> np.ndarray:
        """uint32[T, 4]: the location of every frame of a view."""
        offset, length, crc = spans.offset, spans.length, spans.crc32c
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
