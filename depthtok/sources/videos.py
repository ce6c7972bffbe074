"""A plain folder of videos or images as episodes: finding them, and reading their frames.

Every folder that directly contains images is an episode, one file per frame, in natural order (2
before 10); every video file is an episode. Images are used unchanged; the frames of a video are
decoded and stored as JPEG. Videos need PyAV (the extra `video`).
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image

from depthtok.errors import CorruptRecord, MissingPackage, SourceError, SourceUnavailable
from depthtok.files import file_sha256
from depthtok.sources.pixels import JPEG_QUALITY
from depthtok.sources.tfrecord import unavailable

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
        """Size of each of its files, in order. Raises `SourceUnavailable`, as all here do that
        looks at the files."""
        return [status.st_size for status in self._statuses()]

    @property
    def times(self) -> list[int]:
        """Sizes and times of its files: as long as they are the same, so is the film."""
        return [
            number
            for status in self._statuses()
            for number in (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        ]

    def _statuses(self) -> Iterator[os.stat_result]:
        for path in self.images or (self.path,):
            with reading(path):
                yield path.stat()

    @property
    def digest(self) -> str:
        """SHA-256 of all of its files; reads them."""
        told = hashlib.sha256()
        for path in self.images or (self.path,):
            with reading(path):
                told.update(file_sha256(path).encode())
        return told.hexdigest()

    def frames(self) -> Iterator[bytes]:
        """Every frame, encoded. Raises `CorruptRecord` if a video cannot be decoded."""
        if self.images:
            return map(_read, self.images)
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
        except (OSError, IndexError, CorruptRecord, SourceUnavailable):
            return None, None


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What the file system says of a file is `SourceUnavailable`, and nobody's failure."""
    try:
        yield
    except OSError as error:
        raise unavailable(path, error, "cannot be read") from error


def _read(path: Path) -> bytes:
    with reading(path):
        return path.read_bytes()


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
            _require_readable(path, error)
            raise CorruptRecord(
                f"{path} cannot be decoded: {error}", remedy="replace it"
            ) from error


def _opened(path: Path):
    av = _av()
    try:
        return av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        _require_readable(path, error)
        raise CorruptRecord(f"{path} is not a video: {error}", remedy="replace it") from error


def _require_readable(path: Path, error: Exception) -> None:
    """Raises `SourceUnavailable` where it was the file system that failed. FFmpeg says EIO for some
    broken videos too, so that the file itself is tried."""
    if not isinstance(error, OSError):
        return
    if error.errno != errno.EIO:
        raise unavailable(path, error, "cannot be read") from error
    with reading(path):
        file_sha256(path)


def _av():
    try:
        import av
    except ImportError:
        raise MissingPackage(
            "reading videos needs the package `av` (PyAV)",
            remedy="pip install 'depthtok[video]', or give folders of images",
        ) from None
    return av
