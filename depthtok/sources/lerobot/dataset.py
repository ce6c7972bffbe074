"""A LeRobot data set as a source of `convert`: a part for every data file, features by their
names in meta/info.json, and `task`, the text of each step."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from depthtok.errors import SourceError
from depthtok.frames import parquet, video
from depthtok.frames.kinds import FrameKind
from depthtok.remote.location import located
from depthtok.sources.files import FileEpisode, FileGroup, NamedFeature
from depthtok.sources.lerobot.info import Info, read_info
from depthtok.sources.lerobot.listing import Listing, read_listing, read_tasks
from depthtok.sources.lerobot.reading import GroupReader, VideoPlace
from depthtok.sources.origins import name_of, revision_of
from depthtok.sources.pixels import PixelFormat


@dataclass(frozen=True)
class LeRobotDirectory:
    """A `FileDataset`: its metadata are read, its data are not."""

    path: Path
    name: str
    info: Info
    listing: Listing
    tasks: Mapping[int, str]

    @classmethod
    def open(cls, path: str | Path) -> LeRobotDirectory:
        """The data set in a directory. Raises `SourceError`, `MissingPackage`."""
        path = located(path)
        info = read_info(path)
        return cls(path, name_of(path), info, read_listing(path, info), read_tasks(path, info))

    @property
    def version(self) -> str:
        return self.info.version

    @property
    def format(self) -> str:
        return f"LeRobot {self.info.version}"

    @property
    def fps(self) -> float | None:
        return self.info.fps

    @property
    def features(self) -> Mapping[str, NamedFeature]:
        return self.info.features

    @property
    def metric(self) -> frozenset[str]:
        return self.info.depth & self.info.videos

    @property
    def place(self) -> Mapping[str, str]:
        """The revision, where it comes from the Hub."""
        return revision_of(self.path)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """As `FileDataset.notes`."""
        info, listed = self.info, len(self.listing.index)
        frames, notes = int(self.listing.length.sum()), []
        if info.total_episodes not in (None, listed):
            notes.append(
                f"meta/info.json says {info.total_episodes:,} episodes, the metadata list "
                f"{listed:,}: the others are not known"
            )
        elif info.total_frames not in (None, frames):
            notes.append(
                f"meta/info.json says {info.total_frames:,} frames, the metadata list {frames:,}"
            )
        ranges = info.splits.values()
        inside = sum(map(len, (rows for split in info.splits for rows in self._rows(split))))
        if inside < listed:
            notes.append(f"{listed - inside:,} of {listed:,} episodes are in no split: left out")
        if sum(max(0, stop - start) for start, stop in ranges) > info.episodes:
            notes.append("splits overlap: episodes in several are taken several times")
        return tuple(notes)

    @property
    def splits(self) -> Mapping[str, int]:
        return {split: len(self._rows(split)) for split in self.info.splits}

    def frames_by(self, key: str) -> FrameKind:
        """As `FileDataset.frames_by`. Raises `SourceError` for a key without frames."""
        if key in self.info.images:
            return FrameKind(parquet.NAME, parquet.VERSION, parquet.NEEDS, {"column": key})
        if key not in self.info.videos:
            raise SourceError(
                f"{key!r} is neither a video nor pictures",
                remedy=f"name one of {', '.join(sorted(self.info.about))}",
            )
        settings = {"depth": self.info.codes(key).to_json()} if key in self.info.depth else {}
        return FrameKind(video.NAME, video.VERSION, video.NEEDS, settings)

    def pixels(self, key: str) -> PixelFormat:
        """As `FileDataset.pixels`."""
        feature = self.features[key]
        encoding = "png" if key in self.info.images else "raw"
        return PixelFormat(encoding, feature.dtype, feature.shape)

    def groups(self, split: str, keys: Sequence[str]) -> list[FileGroup]:
        """As `FileDataset.groups`."""
        rows_of_groups = self._rows(split)
        groups = []
        for number, rows in enumerate(rows_of_groups):
            files = [self._data_file(int(rows[0]))]
            for key in sorted(self.info.videos.intersection(keys)):
                files += sorted({self._video_file(key, row) for row in rows.tolist()})
            episodes = tuple(self.listing.index[rows].tolist())
            groups.append(FileGroup(split, number, len(rows_of_groups), tuple(files), episodes))
        return groups

    def episodes(
        self, group: FileGroup, keys: Sequence[str]
    ) -> Iterator[tuple[int, FileEpisode | SourceError]]:
        """As `FileDataset.episodes`."""
        expected, videos = self._lengths(group), self._video_places(group, keys)
        files = group.paths(self.path)
        images = sorted(self.info.images.intersection(keys))
        listed = self.listing.is_listed
        reader = GroupReader(files, self.features, images, self.tasks, expected, videos, listed)
        return reader.episodes()

    def stated(self, group: FileGroup, keys: Sequence[str], tasks: Sequence[int]) -> str:
        """As `FileDataset.stated`."""
        texts = [self.tasks.get(task) for task in tasks]
        stated = [self._lengths(group), self._video_places(group, keys), texts]
        return hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()

    def _lengths(self, group: FileGroup) -> dict[int, int]:
        """Of each episode, in steps."""
        rows = self._rows(group.split)[group.index]
        return dict(zip(group.episodes, self.listing.length[rows].tolist(), strict=True))

    def _video_places(
        self, group: FileGroup, keys: Sequence[str]
    ) -> dict[int, dict[str, VideoPlace]]:
        """By episode, where it lies in the video of each camera."""
        rows = self._rows(group.split)[group.index]
        return {
            index: {
                key: (
                    group.files.index(self._video_file(key, row)),
                    float(self.listing.videos[key].begins[row]),
                    float(self._next_begins[key][row]),
                )
                for key in self.info.videos.intersection(keys)
            }
            for index, row in zip(group.episodes, rows.tolist(), strict=True)
        }

    @cached_property
    def _next_begins(self) -> dict[str, np.ndarray]:
        """By camera, of every episode that is listed: when the next one begins in the same video,
        s; infinite for the last."""
        table = {}
        for key, videos in self.listing.videos.items():
            order = np.lexsort((videos.begins, videos.file, videos.chunk))
            chunk, file, begins = (v[order] for v in (videos.chunk, videos.file, videos.begins))
            follows = (chunk[1:] == chunk[:-1]) & (file[1:] == file[:-1])
            table[key] = np.full(len(order), np.inf)
            table[key][order[:-1][follows]] = begins[1:][follows]
        return table

    @cached_property
    def _split_rows(self) -> dict[str, list[np.ndarray]]:
        return {}

    def _rows(self, split: str) -> list[np.ndarray]:
        """By data file, in order: the rows of the listing that a split has in it."""
        if split not in self._split_rows:
            listing, (start, stop) = self.listing, self.info.splits[split]
            rows = np.flatnonzero((listing.index >= start) & (listing.index < stop))
            places = np.stack([listing.chunk[rows], listing.file[rows]], axis=1)
            _, inverse = np.unique(places, axis=0, return_inverse=True)
            inverse = inverse.reshape(-1)
            order = np.argsort(inverse, kind="stable")
            cuts = np.flatnonzero(np.diff(inverse[order])) + 1
            pieces = np.split(rows[order], cuts) if len(rows) else []
            self._split_rows[split] = pieces
        return self._split_rows[split]

    def _data_file(self, row: int) -> str:
        return self.info.data_file(int(self.listing.chunk[row]), int(self.listing.file[row]))

    def _video_file(self, key: str, row: int) -> str:
        videos = self.listing.videos[key]
        return self.info.video_file(key, int(videos.chunk[row]), int(videos.file[row]))
