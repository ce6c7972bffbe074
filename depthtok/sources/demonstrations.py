"""HDF5 demonstrations as LIBERO and robomimic keep them: `data/demo_N/{actions, obs/...}`.

A file is a part, an array of a demonstration a feature by its path in it ("obs/agentview_rgb").
LIBERO's files say what to do in their attributes: that is the feature `task`, empty for files that
do not. The simulator is not needed; what actions mean is a matter of the schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from depthtok.disk.files import slug
from depthtok.disk.regular import listed
from depthtok.errors import CorruptRecord, SourceError, did_you_mean
from depthtok.frames import hdf5
from depthtok.frames.kinds import FrameKind, Rows
from depthtok.remote.errors import Refused
from depthtok.remote.location import located
from depthtok.sources.files import FileEpisode, FileGroup, NamedFeature
from depthtok.sources.origins import name_of, revision_of
from depthtok.sources.pixels import PixelFormat

SUFFIXES = (".hdf5", ".h5")
ACTIONS, TASK, SPLIT = "actions", "task", "train"
BLOCK = 64  # frames whose checksums are computed together
_NAMED = re.compile(r"demo_(0|[1-9]\d*)")
SMALLEST_SIDE = 8  # px, of what is a picture or a map and not a matrix


def is_demonstrations(path: Path) -> bool:
    """Whether a path is an HDF5 file, or a directory with some; no directory that cannot be
    listed, as those of web servers."""
    try:
        return bool(_files(path))
    except Refused:
        return False


def _files(path: Path) -> list[Path]:
    if path.suffix.lower() in SUFFIXES and path.is_file():
        return [path]
    return [file for suffix in SUFFIXES for file in listed(path, f"*{suffix}") if file.is_file()]


@dataclass(frozen=True)
class Demonstrations:
    """A `FileDataset`: the files of a directory, and the demonstrations in each."""

    path: Path  # the directory
    name: str
    features: Mapping[str, NamedFeature]
    files: Mapping[str, tuple[int, ...]]  # numbers of the demonstrations, by file
    tasks: Mapping[str, str]  # by file, where it states one
    notes: tuple[str, ...] = ()

    @classmethod
    def open(cls, path: str | Path) -> Demonstrations:
        """The demonstrations at `path`, a file or a directory of files. Raises `SourceError`."""
        path = located(path)
        paths = sorted(_files(path))
        files: dict[str, tuple[int, ...]] = {}
        tasks: dict[str, str] = {}
        features: dict[str, NamedFeature] = {}
        masks: set[str] = set()
        unnamed: list[str] = []
        for file in paths:
            with hdf5.open_hdf5(file) as opened:
                if "data" not in opened:
                    raise SourceError(
                        f"{file} has no group `data`: it is no file of demonstrations",
                        remedy="LIBERO and robomimic keep theirs in data/demo_0, data/demo_1, ...",
                    )
                names = {name: _NAMED.fullmatch(name) for name in opened["data"]}
                numbers = sorted(int(match[1]) for match in names.values() if match)
                unnamed += [f"{file.name}: {name}" for name, match in names.items() if not match]
                masks.update(opened.get("mask", ()))
                files[file.name] = tuple(numbers)
                if text := _task(opened["data"].attrs):
                    tasks[file.name] = text
                if numbers and not features:
                    features = _features(opened[hdf5.demo(numbers[0])], file)
        if tasks:
            features[TASK] = NamedFeature(TASK, "text", "str", per_step=False)
        directory = path if path.is_dir() else path.parent
        name = name_of(path) if path.is_dir() else slug(path.stem)
        notes = tuple(_notes(masks, unnamed, len(files), len(tasks)))
        return cls(directory, name, features, files, tasks, notes)

    version = "0"
    format = "HDF5 demonstrations"
    fps = None
    metric: frozenset[str] = frozenset()

    @property
    def place(self) -> Mapping[str, str]:
        return revision_of(self.path)

    @property
    def splits(self) -> Mapping[str, int]:
        return {SPLIT: len(self.files)}

    def frames_by(self, key: str) -> FrameKind:
        """As `FileDataset.frames_by`."""
        return FrameKind(hdf5.NAME, hdf5.VERSION, hdf5.NEEDS, {"key": key})

    def pixels(self, key: str) -> PixelFormat:
        """As `FileDataset.pixels`."""
        feature = self.features[key]
        shape = feature.shape if len(feature.shape) == 3 else (*feature.shape, 1)
        return PixelFormat("raw", feature.dtype, shape)

    def groups(self, split: str, keys: Sequence[str]) -> list[FileGroup]:
        """As `FileDataset.groups`."""
        count = len(self.files)
        return [
            FileGroup(SPLIT, number, count, (file,), episodes)
            for number, (file, episodes) in enumerate(self.files.items())
        ]

    def stated(self, group: FileGroup, keys: Sequence[str], tasks: Sequence[int]) -> str:
        """As `FileDataset.stated`."""
        return ""

    def episodes(
        self, group: FileGroup, keys: Sequence[str]
    ) -> Iterator[tuple[int, FileEpisode | SourceError]]:
        """As `FileDataset.episodes`."""
        (path,) = group.paths(self.path)
        try:
            with hdf5.open_hdf5(path) as opened:
                for number in group.episodes:
                    location = f"{path}: demo_{number}"
                    try:
                        yield number, self._episode(opened, group, number, location, keys)
                    except SourceError as error:
                        yield number, error
        except CorruptRecord as error:
            for number in group.episodes:
                yield number, error

    def _episode(
        self, opened, group: FileGroup, number: int, where: str, keys: Sequence[str]
    ) -> Demonstration:
        try:
            demo = opened[hdf5.demo(number)]
            names = [path for path, f in self.features.items() if f.kind == "tensor"]
            arrays = {path: demo[path] for path in (ACTIONS, *names, *keys) if path in demo}
            for name, array in arrays.items():
                _require_own(array, opened, f"{where}, {name}")
            steps = len(arrays[ACTIONS])
            columns = {path: arrays[path][()] for path in names if path in arrays}
            rows = {
                key: _rows(demo[key], self.features[key], number, steps, f"{where}, {key}")
                for key in keys
            }
        except hdf5.FAILURES as error:
            hdf5.require_there(group.paths(self.path)[0], error)
            raise CorruptRecord(f"{where} cannot be read: {error}", remedy=hdf5.AGAIN) from error
        task = self.tasks.get(group.files[0], "")
        return Demonstration(number, where, steps, task, self.features, columns, rows)


@dataclass(frozen=True)
class Demonstration:
    """A `FileEpisode`."""

    index: int
    location: str
    steps: int
    task: str
    features: Mapping[str, NamedFeature] = field(repr=False)
    columns: Mapping[str, np.ndarray] = field(repr=False)
    frame_rows: Mapping[str, Rows] = field(repr=False)

    tasks = ()

    def __len__(self) -> int:
        return self.steps

    def values(self, path: str) -> np.ndarray:
        """[T, *shape] of a numeric feature. Raises `SourceError`, `CorruptRecord`."""
        if path not in self.features:
            raise SourceError(
                f"the data set has no feature {path!r}",
                remedy=did_you_mean(path, list(self.features)),
            )
        column, shape = self.columns.get(path), self.features[path].shape
        if column is None or column.shape != (self.steps, *shape):
            state = "is absent" if column is None else f"has shape {column.shape}"
            raise CorruptRecord(f"{self.location}: {path} {state}, not {(self.steps, *shape)}")
        return column

    def texts(self, path: str) -> list[tuple[str, ...]]:
        """What to do, for the whole episode. Raises `SourceError`."""
        if path != TASK:
            raise SourceError(f"{path} is no text", remedy=f"name {TASK}")
        return [(self.task,)]

    def rows(self, key: str) -> Rows:
        """As `FileEpisode.rows`."""
        return self.frame_rows[key]


def _notes(masks: set[str], unnamed: Sequence[str], files: int, tasks: int) -> Iterator[str]:
    """What of the files is not taken as they mean it, or is in some of them alone."""
    if 0 < tasks < files:
        yield f"{files - tasks} of {files} files state no task: it is empty in their episodes"
    if masks:
        yield (
            f"lists of demonstrations in `mask` ({', '.join(sorted(masks))}) are not read: all "
            f"demonstrations are in the split {SPLIT!r}"
        )
    if unnamed:
        yield (
            f"{len(unnamed)} entries of `data` are left out: they are not called demo_0, demo_1, "
            f"... (first: {unnamed[0]})"
        )


def _require_own(array, opened, where: str) -> None:
    """Raises `CorruptRecord` for what is no array by step, and for one whose numbers lie in another
    file: no digest of this one speaks of them, and they may be of any file of this machine."""
    if not getattr(array, "shape", ()):  # of a group, or of a single number
        raise CorruptRecord(f"{where} is no array with an entry for every step")
    if array.file.filename != opened.filename or array.external or array.is_virtual:
        raise CorruptRecord(
            f"{where} lies in another file, to which this one links",
            remedy="copy it into the file (h5repack, or h5py's `copy`)",
        )


def _rows(frames, feature: NamedFeature, number: int, steps: int, where: str) -> Rows:
    """The rows of the index for an array of frames. Reads all of it, a block at a time."""
    if len(frames) != steps:
        raise CorruptRecord(f"{where} has {len(frames)} frames in {steps} steps")
    shape, dtype = tuple(frames.shape[1:]), np.dtype(frames.dtype).name
    if (shape, dtype) != (feature.shape, feature.dtype):
        raise CorruptRecord(
            f"{where} has frames {dtype} {shape}, not {feature.dtype} {feature.shape} as those of "
            "the first demonstration"
        )
    rows = []
    for start in range(0, steps, BLOCK):
        for step, frame in enumerate(frames[start : start + BLOCK], start):
            rows.append((step, 0, number, hdf5.checked(frame)))
    return np.array(rows, np.uint32).reshape(-1, 4)


def _features(demo, file: Path) -> dict[str, NamedFeature]:
    """The arrays of a demonstration that have an entry for every step."""
    import h5py

    actions = demo.get(ACTIONS) if isinstance(demo, h5py.Group) else None
    if not isinstance(actions, h5py.Dataset) or not actions.shape:
        raise SourceError(
            f"{file}: {demo.name} has no `{ACTIONS}`",
            remedy="only demonstrations with actions are read",
        )
    steps, features = len(actions), {}

    def visit(path: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.shape and item.shape[0] == steps:
            shape, kind = item.shape[1:], np.dtype(item.dtype).kind
            if kind not in "uifb":
                return
            is_map = len(shape) in (2, 3) and min(shape[:2]) >= SMALLEST_SIDE
            is_map = is_map and (len(shape) == 2 or shape[2] in (1, 3))
            name = np.dtype(item.dtype).name
            encoding = "" if is_map else "none"
            kind = "image" if is_map else "tensor"
            features[path] = NamedFeature(path, kind, name, tuple(shape), encoding)

    demo.visititems(visit)
    return dict(sorted(features.items()))


def _task(attributes: Mapping[str, object]) -> str:
    """What LIBERO's attributes say is to be done; "" where they do not."""
    try:
        problem = json.loads(_words(attributes["problem_info"]))
        text = problem["language_instruction"]
    except (KeyError, TypeError, ValueError):
        return _task_of_name(_words(attributes.get("bddl_file_name", "")))
    return ("".join(text) if isinstance(text, list) else str(text)).strip(' "')


def _words(value: object) -> str:
    """The text of an attribute: of those of fixed length h5py gives the bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _task_of_name(path: str) -> str:
    """What the name of a LIBERO problem says: KITCHEN_SCENE3_turn_on_the_stove.bddl."""
    name = re.sub(r"^[A-Z_]+SCENE\d+_", "", Path(path).stem)
    return name.replace("_", " ").strip()
