"""Which episodes lie where in an export as LeRobot: it follows from what was made of each, so that
an export that goes on, and one made anew, have the same files.

Episodes are counted twice: by `number` in their store, and by `index` among those that are
exported.
"""

from __future__ import annotations

import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

import numpy as np
from jaxtyping import Int64

from depthtok.errors import ConfigError
from depthtok.json_values import JsonObject, value_of
from depthtok.stores.stored_episode import StoredEpisode
from pipelines.export.columns import columns_of
from pipelines.export.config import ExportConfig
from pipelines.export.joined import Joined
from pipelines.export.names import CameraKeys
from pipelines.export.packets import ClipFacts
from pipelines.export.tables import Columns, cut
from pipelines.export.work import Failed

FILES_IN_CHUNK = 1000
MB = 1_000_000
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"


def file_path(template: str, number: int, key: str = "") -> str:
    """The path, below the data set, of the file of this number."""
    chunk, file = divmod(number, FILES_IN_CHUNK)
    return template.format(video_key=key, chunk_index=chunk, file_index=file)


def _integers() -> array:
    return array("q")


@dataclass(frozen=True)
class StreamClips:
    """What files are made by, of the clips of one video: see `ClipFacts`."""

    bytes: array = field(default_factory=_integers)
    delay: array = field(default_factory=_integers)
    parameters: list[str] = field(default_factory=list)

    def add(self, clip: ClipFacts) -> None:
        """Adds the clip of an episode."""
        self.bytes.append(clip.bytes)
        self.delay.append(clip.delay)
        self.parameters.append(sys.intern(clip.parameters))


@dataclass(frozen=True)
class EpisodeRecords:
    """What was made of all episodes (see `episode.py`), in few bytes each: there may be millions.

    `numbers` are the episodes that are exported, `clips` theirs by feature; by camera, how many
    clips were `copied` and not encoded, and how many pixels of depth are `beyond` the ends of the
    depth video's codes.
    """

    numbers: array = field(default_factory=_integers)
    clips: dict[str, StreamClips] = field(default_factory=dict)
    failures: list[Failed] = field(default_factory=list)
    copied: Counter[str] = field(default_factory=Counter)
    beyond: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, records: Iterable[tuple[int, JsonObject]]) -> EpisodeRecords:
        """Reads the record of every episode, by its number. Raises `ConfigError` where no episode
        can be exported."""
        all_of_them = cls()
        for number, record in records:
            all_of_them._add(number, record)
        failures = all_of_them.failures
        if not all_of_them.numbers:
            raise ConfigError(
                f"not one of {len(failures)} episodes can be exported; the first: "
                f"{failures[0].reason}",
                remedy="see to that, and run the command again with another --out",
            )
        return all_of_them

    def _add(self, number: int, record: JsonObject) -> None:
        if "failed" in record:
            self.failures.append(Failed(str(record["key"]), str(record["failed"])))
            return
        self.numbers.append(number)
        for key, clip in value_of(record, "clips", dict).items():
            self.clips.setdefault(key, StreamClips()).add(ClipFacts(**clip))
        self.copied.update(value_of(record, "copied", list))
        self.beyond.update(value_of(record, "beyond", dict))


@dataclass(frozen=True)
class ExportLayout:
    """`records` are what was made of the episodes."""

    joined: Joined
    config: ExportConfig
    keys: Mapping[str, CameraKeys]
    rate: Fraction
    records: EpisodeRecords

    @property
    def numbers(self) -> array:
        """The episodes that are exported."""
        return self.records.numbers

    def episode(self, index: int) -> StoredEpisode:
        """An exported episode."""
        return self.joined.episodes.episode(self.numbers[index])

    @cached_property
    def lengths(self) -> Int64[np.ndarray, " E"]:
        """Frames of every exported episode."""
        return self.joined.episodes.lengths[self.numbers].astype(np.int64)

    @cached_property
    def starts(self) -> Int64[np.ndarray, " E"]:
        """The first frame of each exported episode, among all frames."""
        return np.cumsum(self.lengths) - self.lengths

    @cached_property
    def video_groups(self) -> dict[str, list[range]]:
        """By feature that is a video: the episodes, by index, in each of its files."""
        limit = self.config.video_file_mb * MB
        groups: dict[str, list[range]] = {}
        for key, clips in self.records.clips.items():
            groups[key] = [
                range(run.start + part.start, run.start + part.stop)
                for run in runs(clips.parameters)
                for part in cut(clips.bytes[run.start : run.stop], limit)
            ]
        return groups

    @cached_property
    def data_groups(self) -> list[range]:
        """The episodes, by index, in each data file."""
        row = sum(values[:1].nbytes for values in self.columns(0).values())
        return cut(
            [length * row for length in self.lengths.tolist()], self.config.data_file_mb * MB
        )

    @cached_property
    def tasks(self) -> dict[str, int]:
        """The number of every text, in the order in which they come up."""
        numbers: dict[str, int] = {}
        for index in range(len(self.numbers)):
            for text in self.texts(index):
                numbers.setdefault(text, len(numbers))
        return numbers

    def texts(self, index: int) -> list[str]:
        """The distinct texts of an episode, in the order in which they come up."""
        of_steps = self.joined.step_texts(self.episode(index))
        return list(dict.fromkeys(of_steps))

    def columns(self, index: int) -> Columns:
        """The columns of an episode, one row a frame."""
        episode = self.episode(index)
        step = np.arange(len(episode))
        numbers = [self.tasks[text] for text in self.joined.step_texts(episode)]
        return {
            **columns_of(self.joined, episode, self.keys, self.config),
            "timestamp": (step / float(self.rate)).astype(np.float32),
            "frame_index": step,
            "episode_index": np.full(len(step), index),
            "index": self.starts[index] + step,
            "task_index": np.array(numbers, np.int64),
        }

    def splits(self) -> dict[str, str]:
        """The range of episodes of every split: stores have them one after the other."""
        names = [self.episode(index).key.split for index in range(len(self.numbers))]
        parts = runs(names)
        if len({names[part.start] for part in parts}) < len(parts):
            return {"train": f"0:{len(names)}"}
        return {names[part.start]: f"{part.start}:{part.stop}" for part in parts}


def runs(values: Sequence[str]) -> list[range]:
    """The places of equal values that follow each other."""
    starts = [n for n in range(len(values)) if n == 0 or values[n] != values[n - 1]]
    return [range(a, b) for a, b in zip(starts, [*starts[1:], len(values)], strict=True)]
