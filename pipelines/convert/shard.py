"""convert, one shard: its episodes become the rows of one part.

Columns and texts are read as the schema says; of every image only its place, its length and its
CRC32C. No image is decoded, but for those that by their sizes and checksums may show nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from jaxtyping import UInt32, UInt64

from depthtok.errors import CorruptRecord
from depthtok.sources.episode import RawEpisode, Spans
from depthtok.sources.framing import ShardDigest
from depthtok.sources.rlds import RldsDirectory
from depthtok.sources.schema import Schema
from depthtok.sources.shards import Shard
from depthtok.stores import absent
from depthtok.stores.episodes import View
from depthtok.stores.frame_files import PACKED
from depthtok.stores.origin import FRAMES, MADE_FROM, FrameDigests
from depthtok.stores.part_writer import PartWriter
from pipelines.convert.episode_columns import EpisodeColumns
from pipelines.convert.flags import Flags
from pipelines.stage import Advance, recording_failures


@dataclass(frozen=True)
class Reading:
    """What is read of every shard, and how: `view_paths` are the features of the `views`."""

    rlds: RldsDirectory
    schema: Schema
    views: Sequence[View]
    view_paths: Sequence[str]
    copy_images: bool
    checks_grippers: bool  # whether a gripper out of its range is an error


class ShardIndexer:
    """Indexes one shard."""

    def __init__(
        self, reading: Reading, shard: Shard, writer: PartWriter, advance: Advance
    ) -> None:
        self.reading, self.shard, self.writer, self.advance = reading, shard, writer, advance
        checks = reading.checks_grippers
        self.columns = EpisodeColumns(reading.schema, writer, checks_grippers=checks)
        self.packed: BinaryIO | None = None
        self.framing = ShardDigest()
        self.frames = FrameDigests(reading.views)
        self.read_indices: set[int] = set()  # of the records so far, bad ones too
        self.flags = Flags(reading.schema)
        self.dropped = 0  # steps of the episodes, by the schema

    def read(self) -> None:
        """Fills the part. All intact episodes of a damaged shard are kept."""
        copy = self.reading.copy_images
        source = self.shard.path.relative_to(self.reading.rlds.path).as_posix()
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
        self.flags.record(self.writer)
        made_from = {**self.framing.to_json(), "episodes": self.shard.episodes}
        self.writer.meta[MADE_FROM] = made_from
        self.writer.meta[FRAMES] = self.frames.to_json()
        self.columns.close()

    def _read_records(self) -> None:
        try:
            for raw in self.reading.rlds.records(self.shard, self._bad, self.framing):
                with recording_failures(self.writer, raw.index):
                    self._episode(raw)
                self._count(raw.index)
        except CorruptRecord as error:  # nothing after this point can be read
            indices = range(self.shard.episodes)
            unread = [index for index in indices if index not in self.read_indices]
            for index in unread or [self.shard.episodes]:  # all were read: there is one too many
                self._bad(index, error)

    def _bad(self, index: int, error: CorruptRecord) -> None:
        self.writer.fail(index, error.problem)
        self._count(index)

    def _count(self, index: int) -> None:
        self.read_indices.add(index)
        self.advance(1)

    def _episode(self, raw: RawEpisode) -> None:
        writer = self.writer
        keep = self.columns.write(raw, self.shard.path.name)
        if keep is None:
            return
        intrinsics = self.columns.intrinsics(raw)
        spans = [raw.spans(path)[keep] for path in self.reading.view_paths]
        locations = [self._locations(raw, view_spans) for view_spans in spans]
        writer.append("images", np.stack(locations, axis=1))
        absent_cameras = self._absent(raw, spans)
        writer.end(raw.index, len(spans[0].length), intrinsics=intrinsics)
        self.dropped += len(raw) - len(spans[0].length)
        for camera in absent_cameras:
            writer.absent(camera, raw.index)
        self.frames.add(raw.index, locations)

    def _absent(self, raw: RawEpisode, spans: list[Spans]) -> list[str]:
        """The cameras that the episode does not have."""
        cameras = []
        for view, frames in zip(self.reading.views, spans, strict=True):
            if view.kind == "rgb":
                blank = absent.suspect(frames.length, frames.crc32c, view.format.shape)
                blank = blank and absent.blank(raw.bytes_at(frames), view.format)
                if self.flags.absent(raw, view.camera, blank=blank):
                    cameras.append(view.camera)
        return cameras

    def _locations(self, raw: RawEpisode, spans: Spans) -> UInt32[np.ndarray, "T 4"]:
        """The low and high half of the offset, the length and the CRC32C of a view's frames."""
        offset, length, crc = spans.offset, spans.length, spans.crc32c
        if self.packed:
            offset = _pack(self.packed, raw, spans)
        low, high = (offset & 0xFFFFFFFF).astype(np.uint32), (offset >> 32).astype(np.uint32)
        return np.stack([low, high, length, crc], axis=1)


def _pack(packed: BinaryIO, raw: RawEpisode, spans: Spans) -> UInt64[np.ndarray, " T"]:
    """Copies frames to the part's own file; returns their offsets there."""
    start = packed.tell()
    packed.writelines(raw.bytes_at(spans))
    ends = np.cumsum(spans.length.astype(np.uint64))
    return start + ends - spans.length
