"""convert, one group of files (LeRobot, HDF5): its episodes become the rows of a part.

Frames stay where they are, unless they are packed: pictures of a parquet as they are, frames of
videos as JPEG (quality 95), arrays as PNG, and depth in metres losslessly.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import numpy as np
import simplejpeg
from PIL import Image

from depthtok.disk.images import ImageFiles
from depthtok.errors import CorruptRecord, SourceError
from depthtok.frames import parquet, video
from depthtok.frames.kinds import FrameKind, FrameSource, Rows
from depthtok.frames.parquet import ParquetSource
from depthtok.frames.registry import source_of
from depthtok.sources.files import FileDataset, FileEpisode, FileGroup
from depthtok.sources.pixels import JPEG_QUALITY, PixelFormat
from depthtok.sources.schema import Schema
from depthtok.stores.absent import Looks
from depthtok.stores.episodes import View
from depthtok.stores.frame_files import FILES, PACKED
from depthtok.stores.origin import FRAMES, FrameDigests
from depthtok.stores.part_writer import PartWriter
from pipelines.convert.episode_columns import EpisodeColumns
from pipelines.convert.flags import Flags
from pipelines.stage import Advance, recording_failures


def packed_view(view: View) -> View:
    """The same view, of frames that are packed."""
    if view.frames_by.name == parquet.NAME:
        return replace(view, frames_by=FrameKind())
    encoding = "zlib"
    if view.format.dtype == "uint8" and view.format.shape[2] == 3:
        encoding = "jpeg" if view.frames_by.name == video.NAME else "png"
    format = PixelFormat(encoding, view.format.dtype, view.format.shape)
    return replace(view, frames_by=FrameKind(), format=format, channels="rgb")


def encoded(frame: np.ndarray, format: PixelFormat) -> bytes:
    """One frame [H, W, C] as it is packed."""
    if format.encoding == "jpeg":
        return simplejpeg.encode_jpeg(np.ascontiguousarray(frame), JPEG_QUALITY)
    if format.encoding == "png":
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "png", compress_level=1)
        return buffer.getvalue()
    little = frame.astype(np.dtype(format.dtype).newbyteorder("<"), copy=False)
    return zlib.compress(little.tobytes(), 1)


@dataclass(frozen=True)
class ReadView:
    """A view of the data set: its feature, how it is read there, and what reads it."""

    key: str
    view: View
    source: FrameSource

    @classmethod
    def of(cls, key: str, view: View) -> ReadView:
        """Opens no file yet."""
        return cls(key, view, source_of(view, ImageFiles(), key))

    def packs(self, files: Sequence[Path], rows: Rows) -> Iterator[bytes]:
        """The bytes of frames as they are packed."""
        if isinstance(self.source, ParquetSource):
            return self.source.encoded(files, rows)
        format = packed_view(self.view).format
        return (encoded(frame, format) for frame in self.source.frames(files, rows))

    def is_blank(self, files: Sequence[Path], rows: Rows) -> bool:
        """Whether all frames are one flat colour: looked at until one shows something."""
        looks = Looks()
        try:
            for frame in self.source.frames(files, rows):
                looks.add(frame[None])
                if looks.textured:
                    return False
        except CorruptRecord:
            return False  # a frame that cannot be decoded is not flat
        return looks.frames > 0


@dataclass(frozen=True)
class FilesReading:
    """What is read of every group, and how."""

    dataset: FileDataset
    schema: Schema
    views: Sequence[ReadView]
    stored_views: Sequence[View]  # as the store has them
    copy_images: bool

    @property
    def keys(self) -> list[str]:
        """The features with frames."""
        return [view.key for view in self.views]


class FilesIndexer:
    """Indexes one group."""

    def __init__(
        self, reading: FilesReading, group: FileGroup, writer: PartWriter, advance: Advance
    ) -> None:
        self.reading, self.group, self.writer, self.advance = reading, group, writer, advance
        self.files = group.paths(reading.dataset.path)
        self.columns = EpisodeColumns(reading.schema, writer, checks_grippers=True)
        self.frames = FrameDigests(reading.stored_views)
        self.flags = Flags(reading.schema)
        self.dropped = 0  # steps of the episodes, by the schema
        self.tasks: set[int] = set()  # of the episodes that are kept
        self.packed: BinaryIO | None = None

    def read(self) -> None:
        """Fills the part. All episodes that are sound are kept."""
        reading = self.reading
        self.writer.meta["source"] = None if reading.copy_images else self.group.files[0]
        self.writer.meta[FILES] = list(self.group.files)
        try:
            if reading.copy_images:
                self.packed = (self.writer.directory / PACKED).open("wb")
            for index, episode in reading.dataset.episodes(self.group, reading.keys):
                with recording_failures(self.writer, index):
                    if isinstance(episode, SourceError):
                        raise episode
                    self._episode(episode)
                self.advance(1)
        finally:
            if self.packed:
                self.packed.close()
        self.flags.record(self.writer)
        self.writer.meta[FRAMES] = self.frames.to_json()
        self.columns.close()

    def _episode(self, raw: FileEpisode) -> None:
        writer, reading = self.writer, self.reading
        keep = self.columns.write(raw, self.files[0].name)
        if keep is None:
            return
        intrinsics = self.columns.intrinsics(raw)
        rows = [raw.rows(view.key)[keep] for view in reading.views]
        absent = [
            view.view.camera
            for view, of_view in zip(reading.views, rows, strict=True)
            if view.view.kind == "rgb" and self._is_absent(raw, view, of_view)
        ]
        if self.packed:
            pairs = zip(reading.views, rows, strict=True)
            rows = self._packed(self.packed, [v.packs(self.files, r) for v, r in pairs])
        writer.append("images", np.stack(rows, axis=1))
        writer.end(raw.index, len(rows[0]), intrinsics=intrinsics)
        self.dropped += len(raw) - len(rows[0])
        self.tasks.update(raw.tasks)
        for camera in absent:
            writer.absent(camera, raw.index)
        self.frames.add(raw.index, rows)

    def _is_absent(self, raw: FileEpisode, view: ReadView, rows: Rows) -> bool:
        """Whether the episode does not have the camera of a view."""
        blank = view.is_blank(self.files, rows)
        return self.flags.absent(raw, view.view.camera, blank=blank)

    def _packed(self, packed: BinaryIO, views: list[Iterator[bytes]]) -> list[Rows]:
        """Writes the frames of an episode to the part's own file: their rows there. Nothing stays
        of an episode that cannot be read whole."""
        start, rows = packed.tell(), []
        try:
            for view in views:
                spans = []
                for data in view:
                    at, crc = packed.tell(), google_crc32c.value(data)
                    packed.write(data)
                    spans.append((at & 0xFFFFFFFF, at >> 32, len(data), crc))
                rows.append(np.array(spans, np.uint32).reshape(-1, 4))
        except SourceError:
            packed.seek(start)
            packed.truncate()
            raise
        return rows
