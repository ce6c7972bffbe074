"""The episodes of one data file of a LeRobot data set, with the rows of the index for their frames.

The file is read in batches. Of pictures only size, checksum and place are held; of videos the time
stamps of one file a camera.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import google_crc32c
import numpy as np

from depthtok.errors import CorruptRecord, SourceError, did_you_mean
from depthtok.frames.kinds import Rows
from depthtok.frames.parquet import arrow, open_parquet, picture_bytes, unreadable
from depthtok.frames.video_index import NEAR, Packets, packets
from depthtok.sources.files import FileEpisode, NamedFeature
from depthtok.sources.lerobot.info import TASK

BATCH = 256  # rows
VideoPlace = tuple[int, float, float]
"""Number of the file; where the episode begins in it, and where the next one does, s (else inf)."""


@dataclass(frozen=True)
class LeRobotEpisode:
    """A `FileEpisode`: its columns as numpy arrays, [T, *shape], and texts."""

    index: int
    location: str
    features: Mapping[str, NamedFeature] = field(repr=False)
    columns: Mapping[str, np.ndarray] = field(repr=False)
    frame_rows: Mapping[str, Rows] = field(repr=False)

    def __len__(self) -> int:
        return len(self.columns["episode_index"])

    @property
    def tasks(self) -> list[int]:
        """The tasks of its steps, ascending; none where its file does not say."""
        numbers = np.asarray(self.columns.get("task_index", ()))
        return np.unique(numbers).tolist() if numbers.dtype.kind in "iu" else []

    def values(self, path: str) -> np.ndarray:
        """[T, *shape] of a numeric feature. Raises `SourceError`, `CorruptRecord`."""
        feature = self._feature(path)
        column = self.columns.get(path)
        if column is None or feature.kind != "tensor":
            raise SourceError(
                f"{path} has no numeric values (it is {feature.kind})", remedy="leave it out"
            )
        try:
            return column.reshape(len(self), *(size or 0 for size in feature.shape))
        except ValueError:
            raise CorruptRecord(
                f"{self.location}: {path} has {column.size} values in {len(self)} steps of shape "
                f"{feature.shape}"
            ) from None

    def texts(self, path: str) -> list[tuple[str, ...]]:
        """The text of every step, or its texts. Raises `SourceError`."""
        if self._feature(path).kind != "text" or path not in self.columns:
            raise SourceError(f"{path} is no text", remedy=f"name a text, such as {TASK}")
        entries = self.columns[path].tolist()
        lists = [entry if isinstance(entry, list) else [entry] for entry in entries]
        return [tuple(str(text or "") for text in texts) for texts in lists]

    def rows(self, key: str) -> Rows:
        """As `FileEpisode.rows`."""
        return self.frame_rows[key]

    def _feature(self, path: str) -> NamedFeature:
        if path not in self.features:
            raise SourceError(
                f"the data set has no feature {path!r}",
                remedy=did_you_mean(path, list(self.features)),
            )
        return self.features[path]


class GroupReader:
    """Reads one data file. `expected` has the length of each of its episodes by index, `videos` for
    each of them where it lies in the video of each camera; `is_listed` knows all episodes of the
    data set, those of other splits too.
    """

    def __init__(
        self,
        files: Sequence[Path],
        features: Mapping[str, NamedFeature],
        images: Sequence[str],
        tasks: Mapping[int, str],
        expected: Mapping[int, int],
        videos: Mapping[int, Mapping[str, VideoPlace]],
        is_listed: Callable[[int], bool],
    ) -> None:
        self.files, self.features, self.images, self.tasks = files, features, images, tasks
        self.expected, self.videos, self.is_listed = expected, videos, is_listed
        self._packets: dict[str, tuple[int, Packets]] = {}  # of each camera, the last file

    def episodes(self) -> Iterator[tuple[int, FileEpisode | SourceError]]:
        """The episodes in the order of their indices; those that are not there with the reason."""
        remaining = list(self.expected)
        try:
            for index, columns in self._columns():
                if index not in remaining:
                    if not self.is_listed(index):
                        yield index, self._not_listed(index)
                    continue
                for missing in remaining[: remaining.index(index)]:
                    yield missing, self._not_there(missing)
                remaining = remaining[remaining.index(index) + 1 :]
                try:
                    yield index, self._episode(index, columns)
                except SourceError as error:
                    yield index, error
        except CorruptRecord as error:  # nothing after this point can be read
            for index in remaining:
                yield index, error
            return
        for index in remaining:
            yield index, self._not_there(index)

    def _not_there(self, index: int) -> CorruptRecord:
        return CorruptRecord(
            f"{self.files[0]} has no rows of episode {index} in its place, which the metadata list",
            remedy="download it again",
        )

    def _not_listed(self, index: int) -> CorruptRecord:
        return CorruptRecord(
            f"{self.files[0]} has rows of episode {index}, which the metadata do not list",
            remedy="download both again",
        )

    def _columns(self) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """The columns of every episode, by index, in the order of the file."""
        pyarrow = arrow()
        held, current = _Held(self), -1
        try:
            for batch in self._batches():
                numbers = np.asarray(batch.column("episode_index"))
                if numbers.dtype.kind not in "iu":
                    raise CorruptRecord(
                        f"{self.files[0]} has rows of no episode: an episode_index is no integer",
                        remedy="download it again",
                    )
                cuts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
                for start, stop in pairwise(cuts):
                    if start == stop:
                        continue
                    if numbers[start] != current and held.steps:
                        yield current, held.taken()
                    current = int(numbers[start])
                    held.add(batch.slice(start, stop - start))
        except (OSError, KeyError, pyarrow.ArrowException) as error:
            raise unreadable(self.files[0], error) from error
        if held.steps:
            yield current, held.taken()

    def _batches(self) -> Iterator:
        """The file by rows of those columns that are read."""
        with open_parquet(self.files[0]) as file:
            present = set(file.schema_arrow.names)
            names = [name for name in self.features if name in present and self._is_read(name)]
            names += [n for n in ("task_index", "episode_index") if n not in names]
            yield from file.iter_batches(BATCH, columns=names)

    def _is_read(self, name: str) -> bool:
        return self.features[name].kind in ("tensor", "text") or name in self.images

    def _episode(self, index: int, columns: dict[str, np.ndarray]) -> LeRobotEpisode:
        location = f"{self.files[0]}: episode {index}"
        needed = [*self.images, *(["timestamp"] if self.videos[index] else [])]
        steps = len(columns["episode_index"])
        for name in needed if TASK in columns else [*needed, "task_index"]:
            if len(columns.get(name, ())) != steps:
                lacks = "not one number a row in the" if name in columns else "no"
                raise CorruptRecord(
                    f"{location} has {lacks} column {name!r} in its file",
                    remedy="download it again",
                )
        if steps != self.expected[index]:
            raise CorruptRecord(
                f"{location} has {steps} rows, the metadata say {self.expected[index]}",
                remedy="download both again",
            )
        numbers = columns.get("frame_index")
        if numbers is not None and not np.array_equal(numbers, np.arange(steps)):
            raise CorruptRecord(f"{location}: frame_index does not count from 0")
        if TASK not in columns:
            columns[TASK] = self._texts(columns["task_index"], location)
        rows = {key: _image_rows(columns.pop(key), location, key) for key in self.images}
        for key, (number, begins, next_begins) in self.videos[index].items():
            times, video = (
                begins + columns["timestamp"].astype(np.float64),
                self._video(key, number),
            )
            rows[key] = video.rows(times, number)
            if times.max() > next_begins - NEAR * video.period:
                raise CorruptRecord(
                    f"{location}: its frames of {key} run into those of the next episode, which "
                    f"begin at {next_begins:.4f} s in {video.path}",
                    remedy="the metadata's from_timestamp of one of them is wrong: download again",
                )
        return LeRobotEpisode(index, location, self.features, columns, rows)

    def _texts(self, numbers: np.ndarray, where: str) -> np.ndarray:
        unknown = set(np.unique(numbers).tolist()) - self.tasks.keys()
        if unknown:
            raise CorruptRecord(f"{where}: there is no task {min(unknown)} in the metadata")
        return np.array([self.tasks[number] for number in numbers.tolist()], object)

    def _video(self, key: str, number: int) -> Packets:
        if key not in self._packets or self._packets[key][0] != number:
            self._packets[key] = number, packets(self.files[number])
        return self._packets[key][1]


class _Held:
    """The columns of the episode at hand. A picture becomes its row, its size and its CRC32C."""

    def __init__(self, reader: GroupReader) -> None:
        self._reader, self._row = reader, 0
        self._pieces: dict[str, list[np.ndarray]] = {}
        self.steps = 0

    def add(self, batch) -> None:
        """Adds rows of the file, of one episode."""
        for name in batch.schema.names:
            column = batch.column(name)
            if name in self._reader.images:
                values = self._pictures(column)
            elif name in self._reader.features and self._reader.features[name].kind == "text":
                values = np.empty(len(column), object)
                for row, text in enumerate(column.to_pylist()):  # or list of texts: one entry, too
                    values[row] = text
            else:
                values = _numbers(column, self._reader.features[name].shape)
            self._pieces.setdefault(name, []).append(values)
        self._row += len(batch)
        self.steps += len(batch)

    def taken(self) -> dict[str, np.ndarray]:
        """All columns, flat; then nothing is held."""
        columns = {name: np.concatenate(pieces) for name, pieces in self._pieces.items()}
        self._pieces, self.steps = {}, 0
        return columns

    def _pictures(self, column) -> np.ndarray:
        rows = []
        for row, data in enumerate(picture_bytes(column), self._row):
            content = data.as_py()
            size, crc = (len(content), google_crc32c.value(content)) if content else (0, 0)
            rows.append((row, size, crc))
        return np.array(rows, np.int64).reshape(-1, 3)


def _numbers(column, shape: Sequence[int | None]) -> np.ndarray:
    """A column of numbers, or of lists of them, flat; a null is NaN. Empty where it has others, and
    where a step has more or fewer than others: flat, they would be those of other steps."""
    import pyarrow.compute

    sides = list(shape)
    while hasattr(column, "flatten") and hasattr(column.type, "value_type"):
        lengths = pyarrow.compute.list_value_length(column)
        side = sides.pop(0) if sides else None
        expected = {side} if side is not None else {lengths[0].as_py()}
        if set(pyarrow.compute.unique(lengths).to_pylist()) != expected:
            return np.empty(0)
        column = column.flatten()
    values = column.to_numpy(zero_copy_only=False)
    return values if values.dtype.kind in "iufb" else np.empty(0)


def _image_rows(pictures: np.ndarray, where: str, key: str) -> Rows:
    """The rows of the index for pictures in the parquet, which is file 0."""
    if not pictures[:, 1].all():
        step = int((pictures[:, 1] == 0).argmax())
        raise CorruptRecord(
            f"{where}, {key}, step {step}: there is no picture in the parquet",
            remedy="pictures in files of their own are not read",
        )
    low, high = pictures[:, 0] & 0xFFFFFFFF, pictures[:, 0] >> 32
    return np.stack([low, high, pictures[:, 1], pictures[:, 2]], axis=1).astype(np.uint32)
