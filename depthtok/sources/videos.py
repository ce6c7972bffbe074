"""A plain folder of videos or images as episodes: finding them, and reading their frames, upright.

Every folder that directly contains images is an episode, one file per frame, in natural order (2
before 10); every video file is an episode. Images are used as they are, but for those that EXIF
says to turn; the frames of a video are decoded and stored as JPEG. Depth videos are no pictures,
and are left out. Videos need PyAV (the extra `video`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import simplejpeg

from depthtok.disk.bounds import LARGEST_FILE
from depthtok.disk.digests import file_sha256
from depthtok.disk.regular import reading, require_file, require_no_special
from depthtok.errors import CorruptRecord, SourceError
from depthtok.sources import video_file
from depthtok.sources.pixels import JPEG_QUALITY, SMALLER, size_of
from depthtok.sources.upright import STORED, of_image, swaps_sides, upright
from depthtok.sources.video_file import Look

IMAGES = (".jpg", ".jpeg", ".png")
VIDEOS = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v")


@dataclass(frozen=True)
class VideoEpisode:
    """One episode: a video file, or a folder of images."""

    name: str  # path relative to the given folder
    path: Path
    images: tuple[Path, ...] = ()  # in order; () for a video

    @property
    def sizes(self) -> list[int]:
        """Size of each of its files in bytes, in order. Raises `SourceUnavailable`, as do the
        other properties and methods."""
        return [status.st_size for status in self._statuses()]

    @property
    def times(self) -> list[int]:
        """Sizes and times of its files: if these are the same, the film did not change."""
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
        digest = hashlib.sha256()
        for path in self.images or (self.path,):
            digest.update(file_sha256(path).encode())
        return digest.hexdigest()

    def frames(self, notes: dict[str, object]) -> Iterator[bytes]:
        """Every frame, encoded and upright. After the last one, `notes` has what is to be recorded
        about them. Raises `CorruptRecord` if a video cannot be decoded whole."""
        if self.images:
            return _upright_images(self.images, notes)
        frames = video_file.decoded(self.path, notes)
        return (simplejpeg.encode_jpeg(frame, JPEG_QUALITY) for frame in frames)

    def look(self) -> Look:
        """Size, rate and number of its upright frames."""
        if not self.images:
            return video_file.look(self.path)
        try:
            data = _read_image(self.images[0])
            size = size_of(data)
        except CorruptRecord:
            return Look()
        way = of_image(data)
        return Look(size[::-1] if swaps_sides(way) else size, frames=len(self.images))


def _read_image(path: Path) -> bytes:
    """The bytes of an image file. Raises `CorruptRecord` if it is too large."""
    require_file(path)
    with reading(path):
        if path.stat().st_size <= LARGEST_FILE:
            return path.read_bytes()
    raise CorruptRecord(f"{path} has more than {LARGEST_FILE:,} bytes", remedy=SMALLER)


def _upright_images(paths: tuple[Path, ...], notes: dict[str, object]) -> Iterator[bytes]:
    ways: dict[int, int] = {}
    for path in paths:
        data = _read_image(path)
        way = of_image(data)
        ways[way] = ways.get(way, 0) + 1
        try:
            yield data if way == STORED else upright(data, way)
        except CorruptRecord as error:
            raise CorruptRecord(f"{path}: {error.problem}", remedy="replace it") from error
    if ways.keys() - {STORED}:
        notes["turned"] = {str(way): count for way, count in sorted(ways.items())}


def films(folder: Path) -> list[VideoEpisode]:
    """The episodes below a folder, sorted by name. Raises `SourceError` if there are none.

    Hidden files and folders are skipped. A single video file is accepted too. Videos that a
    LeRobot data set calls depth maps are left out; `VideoEpisode.look` knows other depth videos.
    """
    if folder.is_file():
        episodes = [VideoEpisode(folder.name, folder)] if folder.suffix.lower() in VIDEOS else []
    else:
        folders = _folders(folder, set())
        episodes = [film for inside in folders for film in _films_in(inside, folder)]
    if not episodes:
        raise SourceError(
            f"{folder} has neither images ({', '.join(IMAGES)}) nor videos ({', '.join(VIDEOS)})",
            remedy="give an EpisodeStore, an RLDS directory, or a folder of videos or of folders "
            "of images",
        )
    return sorted(episodes, key=lambda film: _natural_order(film.name))


def other_files(folder: Path) -> tuple[int, str]:
    """How many files `films` leaves out below a folder, and the first of them: neither images nor
    videos, not hidden, and of no store."""
    if folder.is_file():
        return 0, ""
    count, first = 0, ""
    for path in (path for inside in _folders(folder, set()) for path in inside.iterdir()):
        hidden = path.name[0] == "."
        if not hidden and path.suffix.lower() not in (*IMAGES, *VIDEOS) and path.is_file():
            name = path.relative_to(folder).as_posix()
            count, first = count + 1, min(first or name, name)
    return count, first


def is_video(path: Path) -> bool:
    """Whether a path is a video file by its name."""
    return path.suffix.lower() in VIDEOS and path.is_file()


def is_lerobot_depth(path: Path) -> bool:
    """Whether a video lies in a LeRobot data set that says it is a depth map."""
    return bool(_lerobot_depth_features(path.resolve().parent) & set(path.resolve().parts))


def _lerobot_depth_features(folder: Path) -> frozenset[str]:
    """The depth maps' features in the LeRobot data set that a folder is in, which are the names of
    the folders of their videos; none elsewhere."""
    for directory in (folder, *folder.parents):
        try:
            features = json.loads((directory / "meta" / "info.json").read_text())["features"]
        except OSError:
            continue
        except (ValueError, KeyError, TypeError):
            break
        return frozenset(name for name, about in features.items() if _is_depth_feature(about))
    return frozenset()


def _is_depth_feature(about: object) -> bool:
    """Whether `is_depth_map`, or `video.is_depth_map` of older versions, is true at any level."""
    if not isinstance(about, Mapping):
        return False
    return any(
        value is True if name.endswith("is_depth_map") else _is_depth_feature(value)
        for name, value in about.items()
    )


def _folders(folder: Path, visited: set[Path]) -> Iterator[Path]:
    """A folder and all below it, each once even if links lead back up, without stores (Zarr)."""
    if folder.resolve() in visited or (folder / "zarr.json").is_file():
        return
    visited.add(folder.resolve())
    yield folder
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith("."):
            yield from _folders(path, visited)


def _films_in(folder: Path, root: Path) -> Iterator[VideoEpisode]:
    paths = [path for path in folder.iterdir() if path.name[0] != "."]
    for path in paths:
        if path.suffix.lower() in (*IMAGES, *VIDEOS):
            require_no_special(path)
    files = [path for path in paths if path.is_file()]
    images = [path for path in files if path.suffix.lower() in IMAGES]
    name = folder.relative_to(root).as_posix() if folder != root else root.name
    if images:
        yield VideoEpisode(
            name, folder, tuple(sorted(images, key=lambda path: _natural_order(path.name)))
        )
    for path in files:
        if path.suffix.lower() in VIDEOS:
            yield VideoEpisode(path.relative_to(root).as_posix(), path)


def _natural_order(name: str) -> list[tuple[int, int | str]]:
    """A sort key that orders numbers in names by value."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts] + [(1, name)]
