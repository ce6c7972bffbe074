"""A plain folder of videos or images as episodes: finding them, and reading their frames.

Every folder that directly contains images is an episode, one file per frame, in natural order (2
before 10); every video file is an episode. Images are used unchanged; the frames of a video are
decoded and stored as JPEG. Videos need PyAV (the extra `video`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image

from depthtok.errors import CorruptRecord, MissingPackage, SourceError
from depthtok.sources.pixels import JPEG_QUALITY

IMAGES = (".jpg", ".jpeg", ".png")
VIDEOS = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v")


@dataclass(frozen=True)
class Film:
    """One episode: a video file, or a folder of images."""

    name: str  # path relative to the given folder
    path: Path
    images: tuple[Path, ...] = ()  # in order; () for a video

    @property
    def sizes(self) -> list[int]:
        """Size of each of its files, in order."""
        return [path.stat().st_size for path in self.images or (self.path,)]

    def frames(self) -> Iterator[bytes]:
        """Every frame, encoded. Raises `CorruptRecord` if a video cannot be decoded."""
        if self.images:
            return (path.read_bytes() for path in self.images)
        return (simplejpeg.encode_jpeg(frame, JPEG_QUALITY) for frame in decoded(self.path))

    def count(self) -> int:
        """How many frames there are, as far as the container says; 0 where it does not."""
        if self.images:
            return len(self.images)
        with _opened(self.path) as video:
            stream = video.streams.video[0]
            seconds = (video.duration or 0) / 1e6  # FFmpeg's unit is the microsecond
            return stream.frames or round(seconds * float(stream.average_rate or 0))

    def look(self) -> tuple[tuple[int, int] | None, float | None]:
        """Height and width in px, and Hz; None if unreadable or unknown."""
        try:
            if self.images:
                with Image.open(self.images[0]) as picture:
                    return (picture.height, picture.width), None
            with _opened(self.path) as video:
                stream = video.streams.video[0]
                rate = stream.average_rate
                return (stream.height, stream.width), float(rate) if rate else None
        except (OSError, IndexError, CorruptRecord):
            return None, None


def films(folder: Path) -> list[Film]:
    """The episodes below a folder, sorted by name. Raises `SourceError` if there are none.

    Hidden files and folders are skipped. A single video file is accepted too.
    """
    if folder.is_file():
        found = [Film(folder.name, folder)] if folder.suffix.lower() in VIDEOS else []
    else:
        found = [film for place in _folders(folder, set()) for film in _films_in(place, folder)]
    if not found:
        raise SourceError(
            f"{folder} has neither images ({', '.join(IMAGES)}) nor videos ({', '.join(VIDEOS)})",
            remedy="give an EpisodeStore, an RLDS directory, or a folder of videos or of folders "
            "of images",
        )
    return sorted(found, key=lambda film: _natural(film.name))


def _folders(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """A folder and all below it, each once even if links lead back up."""
    if folder.resolve() in seen:
        return
    seen.add(folder.resolve())
    yield folder
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith("."):
            yield from _folders(path, seen)


def _films_in(place: Path, root: Path) -> Iterator[Film]:
    files = [path for path in place.iterdir() if path.is_file() and path.name[0] != "."]
    images = [path for path in files if path.suffix.lower() in IMAGES]
    name = place.relative_to(root).as_posix() if place != root else root.name
    if images:
        yield Film(name, place, tuple(sorted(images, key=lambda path: _natural(path.name))))
    for path in files:
        if path.suffix.lower() in VIDEOS:
            yield Film(path.relative_to(root).as_posix(), path)


def _natural(name: str) -> list[tuple[int, int | str]]:
    """A sort key that orders numbers in names by value."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts] + [(1, name)]


def decoded(path: Path) -> Iterator[np.ndarray]:
    """The frames of a video, uint8 [H, W, 3]. Raises `CorruptRecord`, `MissingPackage`."""
    av = _av()
    with _opened(path) as video:
        if not video.streams.video:
            raise CorruptRecord(f"{path} has no video frames", remedy="leave it out")
        try:
            for frame in video.decode(video=0):
                yield np.ascontiguousarray(frame.to_ndarray(format="rgb24"))
        except av.FFmpegError as error:
            raise CorruptRecord(
                f"{path} cannot be decoded: {error}", remedy="replace it"
            ) from error


def _opened(path: Path):
    av = _av()
    try:
        return av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise CorruptRecord(f"{path} is not a video: {error}", remedy="replace it") from error


def _av():
    try:
        import av
    except ImportError:
        raise MissingPackage(
            "reading videos needs the package `av` (PyAV)",
            remedy="pip install 'depthtok[video]', or give folders of images",
        ) from None
    return av
