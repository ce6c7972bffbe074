"""Data sets whose episodes lie in files of another format than RLDS: what each format offers.

LeRobot (`lerobot/`) and HDF5 demonstrations (`demonstrations.py`) are such formats. Features have
the names that the format gives them; schemas use these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from depthtok.errors import SourceError
from depthtok.frames.kinds import FrameKind, Rows
from depthtok.sources.columns import ReadableEpisode
from depthtok.sources.features import Feature
from depthtok.sources.pixels import PixelFormat


@dataclass(frozen=True)
class NamedFeature(Feature):
    """A feature whose columns have names in the data set; () where they have none."""

    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileGroup:
    """Files that are read together: group `index` of `of` in a split, with so many episodes.

    `files` are relative to the data set's directory; rows of the index speak of them by number, and
    the first one has the columns.
    """

    split: str
    index: int
    of: int
    files: tuple[str, ...]
    episodes: tuple[int, ...]  # their indices, ascending
    fixed: tuple[Path, ...] = ()  # the files, where they are held to be what they were

    def paths(self, root: Path) -> tuple[Path, ...]:
        """The files of the data set in `root`."""
        return self.fixed or tuple(root / file for file in self.files)


@runtime_checkable
class FileEpisode(ReadableEpisode, Protocol):
    """One episode of a group."""

    @property
    def tasks(self) -> Sequence[int]: ...  # whose texts are in the metadata, not in its files

    def rows(self, key: str) -> Rows:
        """The rows of the index for the frames of this feature. Raises `CorruptRecord`."""
        ...


@runtime_checkable
class FileDataset(Protocol):
    """A data set in files. Picklable."""

    @property
    def path(self) -> Path: ...

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def format(self) -> str: ...  # such as "LeRobot v3.0"

    @property
    def fps(self) -> float | None: ...  # Hz, where the data set states it

    @property
    def features(self) -> Mapping[str, NamedFeature]: ...

    @property
    def splits(self) -> Mapping[str, int]: ...  # number of groups of each

    @property
    def metric(self) -> frozenset[str]: ...  # keys of depth whose frames come in metres

    @property
    def place(self) -> Mapping[str, str]: ...  # what else is known of where it comes from

    @property
    def notes(self) -> tuple[str, ...]: ...  # where what it says of itself differs from what it is

    def frames_by(self, key: str) -> FrameKind:
        """How frames of this feature are read. Raises `SourceError`."""
        ...

    def pixels(self, key: str) -> PixelFormat:
        """What a frame of this feature is. Raises `SourceError`."""
        ...

    def groups(self, split: str, keys: Sequence[str]) -> list[FileGroup]:
        """The groups of a split, in order; their files are those with the frames of `keys`."""
        ...

    def stated(self, group: FileGroup, keys: Sequence[str], tasks: Sequence[int]) -> str:
        """A digest of what the metadata say of a group: its episodes, where their frames are, and
        the texts of `tasks`; "" where all of it is in the files."""
        ...

    def episodes(
        self, group: FileGroup, keys: Sequence[str]
    ) -> Iterator[tuple[int, FileEpisode | SourceError]]:
        """The episodes of a group in order, by index, with the rows of `keys`: each, or what is
        wrong with it. Raises `SourceUnavailable`."""
        ...
