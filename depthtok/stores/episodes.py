"""EpisodeStore: actions, proprioception, instructions, and where every image lies.

Images are not copied: a 16-byte entry a frame says where its bytes begin in the source shard, how
many they are, and their CRC32C. Tables of a part:

    action       float32[N, A]      proprio  float32[N, P]
    instruction  uint32[N]          into `instructions.json` of the part
    images       uint32[N, V, 4]    offset (low, high), length, CRC32C of view V; of views that
                                    are not read as spans of bytes: see `depthtok/frames/`
    intrinsics   float32[E, C, 9]   of every camera, by episode; NaN where not known

A view is the RGB, depth or segmentation of one camera.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from depthtok.data import Camera
from depthtok.disk.files import write_atomic
from depthtok.disk.images import ImageFiles
from depthtok.errors import ConfigError, SourceError, as_type, as_written, known_cameras
from depthtok.frames.again import frames_of
from depthtok.frames.kinds import FrameSource
from depthtok.frames.registry import require_known, source_of
from depthtok.frames.spans import SpanSource
from depthtok.json_values import number_of, value_of, values_of
from depthtok.meaning import Column, Meaning
from depthtok.orientation import Orientation
from depthtok.remote.location import located
from depthtok.stores import statistics
from depthtok.stores.arrays import ArraySpec
from depthtok.stores.frame_files import SizedFile, files_of, files_with, sized_files
from depthtok.stores.manifest import pack_manifest, unpack_manifest
from depthtok.stores.parts import Part
from depthtok.stores.spec import ROOT, ROOT_REMEDY
from depthtok.stores.statistics import ColumnStatistics, Statistics
from depthtok.stores.store import Store
from depthtok.stores.stored_episode import StoredEpisode, View

INSTRUCTIONS = "instructions.json"
ALTERNATIVES = "alternatives.json"
STATISTICS = "statistics.json"


def _camera(data: Mapping[str, Any]) -> Camera:
    return Camera(**{**data, "orientation": Orientation(data["orientation"])})


def array_specs(action: int, proprio: int, views: int, cameras: int) -> dict[str, ArraySpec]:
    """The tables of a part."""
    return {
        "intrinsics": ArraySpec(
            "float32", (cameras, 9), per_episode=True, axes=("camera", "matrix_entry")
        ),
        "action": ArraySpec("float32", (action,), axes=("action_column",)),
        "proprio": ArraySpec("float32", (proprio,), axes=("proprio_column",)),
        "instruction": ArraySpec("uint32", axes=()),
        "images": ArraySpec("uint32", (views, 4), axes=("view", "image_span")),
    }


def write_instructions(part: Path, texts: Sequence[tuple[str, ...]]) -> None:
    """Writes the first text of each instruction of a part, and all texts of those with several."""
    (part / INSTRUCTIONS).write_text(json.dumps([first for first, *_ in texts]))
    alternatives = {
        str(number): list(wordings) for number, wordings in enumerate(texts) if wordings[1:]
    }
    if alternatives:
        (part / ALTERNATIVES).write_text(json.dumps(alternatives))


class EpisodeStore(Store):
    """Episodes by number, in the order of their keys; random access to every frame."""

    TYPE = "episodes"

    def __init__(self, path: str | Path, *, source_root: str | Path | None = None) -> None:
        super().__init__(path)
        with as_written(self.path / ROOT, ROOT_REMEDY):
            self.source_root = located(source_root or self.spec.place["source_root"])
            self.views = [View.from_json(view) for view in values_of(self.about, "views", dict)]
            _ = [as_type(str, name) for view in self.views for name in (view.camera, view.kind)]
            self.fps = number_of(self.about, "fps")
            self.action_dim = value_of(self.about, "action_dim", int)
            self.proprio_dim = value_of(self.about, "proprio_dim", int)
            self.gripper = values_of(self.about, "gripper", int)
            _ = self.cameras, self.meaning, self.segmentation_classes
        for view in self.views:
            require_known(view.frames_by, self.path)
        self._instructions: dict[str, list[str]] = {}
        self._alternatives: dict[str, dict[str, list[str]]] = {}
        self._images = ImageFiles()
        self._sources: dict[int, FrameSource] = {}
        self._files_of: dict[tuple[str, int], tuple[Path, ...]] = {}

    @cached_property
    def meaning(self) -> Meaning:
        """What the columns of actions and states are; unknown where the store does not say."""
        if "meaning" in self.about:
            return Meaning.from_json(value_of(self.about, "meaning", dict))
        action, proprio = (tuple(map(Column, n)) for n in (self.action_names, self.proprio_names))
        return Meaning(action, proprio, self.gripper_convention, self.fps)

    @property
    def action_names(self) -> tuple[str, ...]:
        """The columns of actions."""
        return values_of(self.about, "action_names", str)

    @property
    def proprio_names(self) -> tuple[str, ...]:
        """The columns of states."""
        return values_of(self.about, "proprio_names", str)

    @property
    def gripper_convention(self) -> str:
        """What the numbers of the action's gripper mean: as `Meaning.gripper`."""
        return value_of(self.about, "gripper_convention", str)

    @cached_property
    def cameras(self) -> dict[str, Camera]:
        """The cameras that have RGB, by name."""
        cameras = values_of(self.about, "cameras", dict)
        return {value_of(camera, "name", str): _camera(camera) for camera in cameras}

    @property
    def knows_absent(self) -> bool:
        """As for every store, but false for videos and images: there `annotate` looks for them."""
        return self.spec.stage == "convert" and super().knows_absent

    def camera(self, name: str) -> Camera:
        """The camera `name`. Raises `ConfigError` with the names there are."""
        if name not in self.cameras:
            raise ConfigError(
                f"{self.path} has no camera {name!r}", remedy=known_cameras(self.cameras)
            )
        return self.cameras[name]

    @cached_property
    def segmentation_classes(self) -> dict[str, dict[str, int]]:
        """The segmentation classes that the schema names, by camera: {"robot": 1, ...}."""
        schema = as_type(dict, self.spec.what.get("schema", {}))
        cameras = values_of(schema, "camera", dict) if "camera" in schema else ()
        classes = {camera["name"]: camera.get("segmentation_classes") for camera in cameras}
        return {name: dict(numbers) for name, numbers in classes.items() if numbers}

    @cached_property
    def lengths(self) -> Integer[np.ndarray, " E"]:
        """Steps of every episode."""
        columns = [part.frames for part in self.parts()]
        return np.concatenate(columns) if columns else np.empty(0, np.int64)

    @cached_property
    def ends(self) -> Integer[np.ndarray, " E"]:
        """Steps of all episodes up to and with each one."""
        return np.cumsum(self.lengths)

    @cached_property
    def _part_ends(self) -> Integer[np.ndarray, " P"]:
        return np.cumsum([len(part.frames) for part in self.parts()])

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def steps(self) -> int:
        """Steps of all episodes."""
        return int(self.ends[-1]) if len(self) else 0

    def locate(self, step: int) -> tuple[int, int]:
        """Episode number and step within it of the store's step number `step`. Raises `IndexError`
        for one that there is not."""
        step = range(self.steps)[step]
        episode = int(np.searchsorted(self.ends, step, side="right"))
        return episode, step - int(self.ends[episode] - self.lengths[episode])

    def episode(self, number: int) -> StoredEpisode:
        """The episode `number`, read lazily; -1 is the last. Raises `IndexError` where there is
        none."""
        number = range(len(self))[number]
        index = int(np.searchsorted(self._part_ends, number, side="right"))
        part = self.part(self.part_names[index])
        row = number - (int(self._part_ends[index]) - len(part.frames))
        return StoredEpisode(self, part, row)

    def __iter__(self) -> Iterator[StoredEpisode]:
        return (self.episode(number) for number in range(len(self)))

    def view_index(self, camera: str, kind: str) -> int:
        """The index of a view in the `images` table. Raises `SourceError` where there is none."""
        for index, view in enumerate(self.views):
            if (view.camera, view.kind) == (camera, kind):
                return index
        self.camera(camera)
        cameras = ", ".join(sorted({view.camera for view in self.views if view.kind == kind}))
        remedy = f"cameras with {kind}: {cameras}" if cameras else f"it has no {kind} at all"
        raise SourceError(f"{self.path} has no {kind} for camera {camera!r}", remedy=remedy)

    def instructions(self, part: Part) -> list[str]:
        """The distinct instructions of a part."""
        if part.name not in self._instructions:
            part.require(INSTRUCTIONS)
            self._instructions[part.name] = json.loads((part.path / INSTRUCTIONS).read_text())
        return self._instructions[part.name]

    def alternatives(self, part: Part) -> dict[str, list[str]]:
        """All texts of the instructions with several, by their number as text."""
        if part.name not in self._alternatives:
            part.require(ALTERNATIVES)
            file = part.path / ALTERNATIVES
            self._alternatives[part.name] = json.loads(file.read_text()) if file.is_file() else {}
        return self._alternatives[part.name]

    @cached_property
    def left_out(self) -> dict[str, int]:
        """How many episodes the schema's `[keep.episodes]` left out, by reason."""
        counts: dict[str, int] = {}
        for part in self.parts():
            for reason, indices in part.meta.get("left_out", {}).items():
                counts[reason] = counts.get(reason, 0) + len(indices)
        return counts

    def read_frames(self, part: Part, view: int, start: int, stop: int) -> Iterator[np.ndarray]:
        """The frames [H, W, C] of one view in rows `start` to `stop` of a part, RGB; their bytes
        are checked. Raises `CorruptRecord` and `SourceUnavailable`."""
        rows = self.table(part, "images")[start:stop, view]
        return frames_of(self._source(view), self.view_files(part, view), rows)

    def encoded_frames(
        self, part: Part, view: int, start: int, stop: int
    ) -> Iterator[bytes] | None:
        """The files that the frames of rows `start` to `stop` are, JPEG or PNG of 8 bits and RGB,
        checked; None for a view whose frames are no such files. Raises like `read_frames`."""
        source, shown = self._source(view), self.views[view]
        is_file = shown.format.encoding in ("jpeg", "png") and shown.channels == "rgb"
        if not is_file or shown.format.dtype != "uint8" or not isinstance(source, SpanSource):
            return None
        return source.encoded(
            self.view_files(part, view), self.table(part, "images")[start:stop, view]
        )

    def check_frames(self, part: Part, view: int) -> Iterator[SourceError]:
        """What is wrong with the bytes of a view's frames in a part. Raises
        `SourceUnavailable`."""
        rows = self.table(part, "images")[:, view]
        return self._source(view).check(self.view_files(part, view), rows)

    def _source(self, view: int) -> FrameSource:
        if view not in self._sources:
            self._sources[view] = source_of(self.views[view], self._images, self.path)
        return self._sources[view]

    def view_files(self, part: Part, view: int) -> tuple[Path, ...]:
        """The files that rows of a view speak of by number."""
        if (part.name, view) not in self._files_of:
            files = files_of(part, self.source_root, self.views[view])
            self._files_of[part.name, view] = files
        return self._files_of[part.name, view]

    def frame_files(self, part: Part) -> list[SizedFile]:
        """All files in which frames of a part lie, with their sizes when they were indexed."""
        return sized_files(part, self.source_root, self.views)

    def files_with(self, part: Part, views: list[int], start: int, stop: int) -> list[SizedFile]:
        """Those of them in which the frames of some views in rows `start` to `stop` lie."""
        chosen = [self.views[view] for view in views]
        return files_with(
            part, self.source_root, chosen, lambda: self.table(part, "images")[start:stop, views]
        )

    def __getstate__(self) -> dict:
        return {"path": self.path, "source_root": self.source_root}

    def require_source(self) -> None:
        """Raises `SourceError` where not one of the indexed files is there: the data set moved."""
        files = {path for part in self.parts() for path, _ in self.frame_files(part)}
        if files and not any(path.is_file() for path in files):
            raise SourceError(
                f"the images that {self.path} indexes are not in {self.source_root}",
                remedy="say where the data set lies now with --source-root DIR",
            )

    def compute_statistics(self) -> Statistics:
        """Statistics over all parts that are there."""
        action, proprio = self._statistics_of("action"), self._statistics_of("proprio")
        return Statistics(action, proprio, len(self), self.steps)

    def _statistics_of(self, table: str) -> ColumnStatistics:
        return statistics.of_columns(lambda: (part.map(table) for part in self.parts()))

    def statistics(self) -> Statistics:
        """Statistics of actions and proprioception: the stored ones if they are of these parts."""
        return self.stored_statistics() or self.compute_statistics()

    def stored_statistics(self) -> Statistics | None:
        """The statistics beside the parts; None where there are none, or they are of other parts.

        Raises `CorruptPart` where they are damaged.
        """
        stored = self.path / STATISTICS
        if not stored.is_file():
            return None
        content, _ = unpack_manifest(stored.read_bytes(), stored)
        with as_written(stored, "delete it: `depthtok convert` makes it anew"):
            same = content["parts"] == self.content
            return Statistics.from_json(content["statistics"]) if same else None

    def store_statistics(self) -> None:
        """Keeps the statistics of a complete store beside its parts."""
        if self.stored_statistics() is None:
            content = {"parts": self.content, "statistics": self.compute_statistics().to_json()}
            write_atomic(self.path / STATISTICS, pack_manifest(content))
