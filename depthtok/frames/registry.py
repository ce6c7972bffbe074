"""The kinds of frame sources that this depthtok has, by name. Their packages load when used."""

from __future__ import annotations

from types import MappingProxyType

from depthtok.disk.images import ImageFiles
from depthtok.errors import StoreError
from depthtok.frames import hdf5, parquet, video
from depthtok.frames.kinds import SPANS, FrameKind, FrameSource, Maker, Pixels
from depthtok.frames.spans import SpanSource

KINDS: MappingProxyType[str, tuple[int, Maker]] = MappingProxyType(
    {
        SPANS: (1, SpanSource),
        video.NAME: (video.VERSION, video.VideoSource.of),
        parquet.NAME: (parquet.VERSION, parquet.ParquetSource.of),
        hdf5.NAME: (hdf5.VERSION, hdf5.Hdf5Source.of),
    }
)
"""By name: the newest version of its rows that can be read, and what reads them."""


def require_known(kind: FrameKind, where: object) -> None:
    """Raises `StoreError` for frames that this depthtok cannot read; `where` is their store."""
    newest, _ = KINDS.get(kind.name, (0, None))
    if not 1 <= kind.version <= newest:
        raise StoreError(
            f"{where} has frames of kind {kind.name!r}, version {kind.version}, which this "
            "depthtok does not read",
            remedy=f"use depthtok {kind.needs or 'of the version that made it'} or newer",
        )


def source_of(view: Pixels, images: ImageFiles, where: object) -> FrameSource:
    """What reads the frames of a view. Raises `StoreError` for a kind that is not known."""
    kind = view.frames_by
    require_known(kind, where)
    return KINDS[kind.name][1](view, images)
