"""convert, one shard: its episodes become the rows of one part.

Columns and texts are read as the schema says; of every image only its place, its length and its
CRC32C. No image is decoded, but for those that by their sizes and checksums may show nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from depthtok import absent
from depthtok.episodes import PACKED, write_instructions
from depthtok.errors import CorruptRecord
from depthtok.images import ImageFiles
from depthtok.origin import FRAMES, MADE_FROM, FrameDigests
from depthtok.parts import PartWriter
from depthtok.sources.episode import RawEpisode, Spans
from depthtok.sources.framing import ShardDigest
from depthtok.sources.schema import Schema
from depthtok.sources.shards import Shard
from pipelines.gripper import require_gripper
from pipelines.stage import Advance, recording_failures

if TYPE_CHECKING:  # it imports this file
    from pipelines.convert import ConvertStage


class Flags:
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


class ShardIndexer:
    """Indexes one shard."""

    def __init__(
        self, stage: ConvertStage, shard: Shard, writer: PartWriter, advance: Advance
    ) -> None:
        self.stage, self.shard, self.writer, self.advance = stage, shard, writer, advance
        self.instructions: dict[tuple[str, ...], int] = {}
        self.left_out: dict[str, list[int]] = {}
        self.images, self.packed = ImageFiles(), None
        self.framing = ShardDigest()
        self.frames = FrameDigests(stage.views)
        self.done: set[int] = set()
        self.flags = Flags(stage.schema)

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
