"""The meaning of a data set's features: cameras, depth, instruction, action, state.

A schema is a TOML file (see docs/schemas.md), checked against the data set's features before any
data are read. It replaces the per-data-set Python functions that are common elsewhere.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from depthtok import meaning
from depthtok.disk.regular import require_file, require_given
from depthtok.errors import CorruptRecord, SchemaError, did_you_mean
from depthtok.meaning import Meaning
from depthtok.orientation import Orientation
from depthtok.sources.cameras import CameraSchema
from depthtok.sources.columns import FeatureFacts, ReadableEpisode, SchemaColumns
from depthtok.sources.guessed import guessed_units
from depthtok.sources.instruction import Instruction
from depthtok.sources.keep import Keep
from depthtok.sources.shipped import shipped_schemas
from depthtok.sources.table import SchemaTable

STATUSES = ("verified", "catalogue", "documented", "unseen")
"""verified: data of this exact layout were read here. catalogue: written from published features.
documented: written from documentation, no features having been published. unseen: written only
from the configuration tables of other projects."""

GRIPPERS = (*meaning.GRIPPERS, "unknown", "none")
"""The meaning of the action's gripper columns, after the operations. The standard is
`open1_closed0`; LIBERO keeps `open-1_closed1`, which its simulator expects."""


@dataclass(frozen=True)
class Schema:
    """The meaning of one data set. Fields below the line are documentation without effect."""

    fps: float | None  # Hz; None where the schema says that it is unknown
    instruction: Instruction
    cameras: tuple[CameraSchema, ...]
    action_columns: tuple[SchemaColumns, ...]
    proprio_columns: tuple[SchemaColumns, ...]
    gripper: str = "none"
    keep_rule: Keep = field(default_factory=Keep)
    # --
    name: str = field(default="", compare=False)
    datasets: tuple[str, ...] = field(default=(), compare=False)
    status: str = field(default="unseen", compare=False)
    source: str = field(default="", compare=False)
    licence: str = field(default="", compare=False)
    notes: str = field(default="", compare=False)
    guessed: tuple[str, ...] = field(default=(), compare=False)  # cameras: a draft's depth_unit

    @classmethod
    def names(cls) -> list[str]:
        """Names of the shipped schemas, sorted."""
        return sorted(name for name, _ in shipped_schemas())

    @classmethod
    def load(cls, name_or_path: str | Path) -> Schema:
        """A shipped schema by its name or its data set's, or any TOML file by path.

        Raises `SchemaError` for an unknown name, and for a file that is not a schema.
        """
        if str(name_or_path).endswith(".toml"):
            path = Path(name_or_path)
            require_file(path)
            if not path.is_file():
                raise SchemaError(f"there is no file {path}", remedy="check the path")
            try:
                text = path.read_text("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                require_given(path, error)
                raise SchemaError(
                    f"{path} cannot be read: {error}", remedy="save it as UTF-8 text"
                ) from error
            return parse_schema(text, path.stem, str(path))
        shipped = dict(shipped_schemas())
        if name_or_path in shipped:
            return parse_schema(shipped[name_or_path], str(name_or_path), f"{name_or_path}.toml")
        schema = cls.find(str(name_or_path))
        if schema is None:
            raise SchemaError(
                f"there is no schema {str(name_or_path)!r}",
                remedy=did_you_mean(str(name_or_path), list(shipped))
                + " For your own schema give its path, ending in .toml.",
            )
        return schema

    @classmethod
    def find(cls, dataset_name: str) -> Schema | None:
        """The shipped schema for a data set of this name, or None."""
        for name, text in shipped_schemas():
            if dataset_name in text:  # so that not all are parsed
                schema = parse_schema(text, name, f"{name}.toml")
                if dataset_name in schema.datasets:
                    return schema
        return None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Schema:
        """The inverse of `to_json`."""
        return _parse(SchemaTable(data, "schema"))

    def to_json(self) -> dict[str, Any]:
        """Everything that affects results, and nothing else; the same for equal schemas."""
        return {
            "fps": meaning.UNKNOWN if self.fps is None else self.fps,
            "instruction": self.instruction.to_json(),
            "gripper": self.gripper,
            "keep": self.keep_rule.to_json(),
            "camera": [camera.to_json() for camera in self.cameras],
            "action": [columns.to_json() for columns in self.action_columns],
            "proprio": [columns.to_json() for columns in self.proprio_columns],
        }

    def to_json_before_meaning(self) -> dict[str, Any] | None:
        """`to_json` as depthtok wrote it before schemas stated references and units.

        None where what it made then is not what it makes now: a first step that is only nearly
        zero, or is zero but for its gripper, was kept.
        """
        if self.keep_rule.drop_first_if_zero:
            return None
        table = self.to_json()
        for columns in (*table["action"], *table["proprio"]):
            columns.pop("reference", None)
            columns.pop("unit", None)
        return table

    @property
    def meaning(self) -> Meaning:
        """What the columns of actions and states are."""
        action, proprio = (
            tuple(column for columns in group for column in columns.meaning)
            for group in (self.action_columns, self.proprio_columns)
        )
        return Meaning(action, proprio, self.gripper, self.fps)

    @property
    def unknown(self) -> list[str]:
        """What the schema leaves unknown, in words, for people; [] if nothing."""
        unoriented = [c.name for c in self.cameras if c.orientation is Orientation.UNKNOWN]
        unmeasured = [c.name for c in self.cameras if c.depth_unit == meaning.UNKNOWN]
        unknown = [f"orientation of {', '.join(unoriented)}"] if unoriented else []
        unknown += [f"unit of the depth of {', '.join(unmeasured)}"] if unmeasured else []
        unknown += [
            f"unit of the depth of {c.name}: {c.depth_unit} is a guess by its dtype"
            for c in self.cameras
            if c.depth_key and c.name in self.guessed
        ]
        return unknown + self.meaning.unknown

    @property
    def action_dims(self) -> tuple[str, ...]:
        """Names of the action's columns."""
        return tuple(dim for columns in self.action_columns for dim in columns.dims)

    @property
    def proprio_dims(self) -> tuple[str, ...]:
        """Names of the state's columns."""
        return tuple(dim for columns in self.proprio_columns for dim in columns.dims)

    @property
    def gripper_dims(self) -> tuple[int, ...]:
        """The action's gripper columns, which are not normalised."""
        return tuple(i for i, dim in enumerate(self.action_dims) if dim.startswith("gripper"))

    def check(self, features: Mapping[str, FeatureFacts], dataset: str = "") -> None:
        """Raises `SchemaError` naming schema, data set and key for any mismatch."""
        self.fitted(features, dataset)

    def fitted(self, features: Mapping[str, FeatureFacts], dataset: str = "") -> Schema:
        """This schema without the optional cameras and keys that the data set lacks. Raises
        `SchemaError` for any mismatch; one that is only `documented` says so."""
        try:
            return self._fitted(features, dataset)
        except SchemaError as error:
            if self.status != "documented":
                raise
            raise SchemaError(
                f"{error.problem} (the schema was written from documentation, no copy of the data "
                "set having been seen)",
                remedy=f"{error.remedy}; or draft one for this copy: depthtok inspect DIR --draft",
            ) from error

    def _fitted(self, features: Mapping[str, FeatureFacts], dataset: str) -> Schema:
        location = f"schema {self.name!r}" + (f", data set {dataset!r}" if dataset else "")
        cameras = [camera.fitted(features, location) for camera in self.cameras]
        present = tuple(camera for camera in cameras if camera is not None)
        if not present:
            raise SchemaError(
                f"{location}: none of its cameras exists",
                remedy="name one that does, [[camera]] key",
            )
        self.instruction.check(features, location)
        for columns in self.action_columns:
            columns.check(features, f"{location}, action")
        for columns in self.proprio_columns:
            columns.check(features, f"{location}, proprio")
        self.keep_rule.check(features, self.action_columns, location)
        return replace(self, cameras=present)

    def action(self, raw: ReadableEpisode, keep: slice = slice(None)) -> Float32[np.ndarray, "T A"]:
        """The actions of all steps; those outside `keep` may be anything, and are to be dropped."""
        return _read(self.action_columns, raw, keep)

    def proprio(
        self, raw: ReadableEpisode, keep: slice = slice(None)
    ) -> Float32[np.ndarray, "T P"]:
        """The robot's state at all steps; those outside `keep` may be anything."""
        return _read(self.proprio_columns, raw, keep)

    def keep(self, raw: ReadableEpisode) -> slice:
        """The steps to use."""
        return self.keep_rule.steps(raw, self.action_columns)

    def left_out(
        self, raw: ReadableEpisode, keep: slice, texts: list[tuple[str, ...]]
    ) -> str | None:
        """Why the schema leaves this episode out; None if it is used. `keep` are the steps to use,
        `texts` its instructions."""
        return self.keep_rule.episodes.against(raw, len(range(*keep.indices(len(raw)))), texts)

    def instructions_of(self, raw: ReadableEpisode) -> list[tuple[str, ...]]:
        """The texts to use, per episode or per step: one, or the alternatives to draw from."""
        return self.instruction.texts(raw)

    def intrinsics(self, raw: ReadableEpisode, camera: str) -> tuple[float, ...] | None:
        """Nine numbers, row by row, px, for the upright true view; None if the schema has none.

        Raises `CorruptRecord` if the camera's intrinsics change during the episode.
        """
        key = next(c.intrinsics_key for c in self.cameras if c.name == camera)
        if key is None:
            return None
        rows = np.asarray(raw.values(key), np.float64).reshape(-1, 9)
        if not np.isfinite(rows).all() or np.ptp(rows, axis=0).any():
            raise CorruptRecord(
                f"episode {raw.index}, {key}: intrinsics are not finite, or not constant",
                remedy="leave `intrinsics_key` out of the schema",
            )
        return tuple(float(number) for number in rows[0])


def _read(
    groups: tuple[SchemaColumns, ...], raw: ReadableEpisode, keep: slice
) -> Float32[np.ndarray, "T n"]:
    if not groups:
        return np.zeros((len(raw), 0), np.float32)
    return np.concatenate([columns.read(raw, keep) for columns in groups], axis=1)


def parse_schema(text: str, name: str, location: str) -> Schema:
    """The schema in TOML text from `location`. Raises `SchemaError` for any other text."""
    try:
        table = SchemaTable(tomllib.loads(text), location)
    except (ValueError, RecursionError) as error:  # also numbers too long, tables too deep
        raise SchemaError(f"{location} is not TOML: {error}", remedy="fix that line") from error
    datasets, status = table.texts("datasets"), table.choice("status", STATUSES)
    source, licence, notes = (table.take(key, str, "") for key in ("source", "licence", "notes"))
    schema = replace(_parse(table), name=name, datasets=datasets, status=status)
    guessed = guessed_units(text)
    return replace(schema, source=source, licence=licence, notes=notes, guessed=guessed)


def _parse(table: SchemaTable) -> Schema:
    schema = Schema(
        fps=_rate(table),
        instruction=Instruction.parse(table),
        cameras=tuple(CameraSchema.parse(row) for row in table.tables("camera")),
        action_columns=tuple(SchemaColumns.parse(row) for row in table.tables("action")),
        proprio_columns=tuple(SchemaColumns.parse(row) for row in table.tables("proprio")),
        gripper=table.choice("gripper", GRIPPERS),
        keep_rule=Keep.parse(SchemaTable(table.take("keep", dict, {}), f"{table.where} [keep]")),
    )
    table.finish()
    _check_consistency(schema, table.where)
    return schema


def _rate(table: SchemaTable) -> float | None:
    """`fps`: a number, or "unknown"."""
    if table.data.get("fps") == meaning.UNKNOWN:
        table.take("fps", str)
        return None
    return table.take("fps", float)


def _check_consistency(schema: Schema, location: str) -> None:
    """Raises `SchemaError` where several fields contradict each other."""
    names = {
        "camera": tuple(camera.name for camera in schema.cameras),
        "action": schema.action_dims,
        "proprio": schema.proprio_dims,
    }
    for kind, all_names in names.items():
        double = sorted({name for name in all_names if all_names.count(name) > 1})
        if double:
            raise SchemaError(
                f"{location}: {kind} {double[0]!r} is defined twice", remedy="rename one"
            )
    for kind, tables in (("camera", schema.cameras), ("action", schema.action_columns)):
        if not tables:
            raise SchemaError(f"{location}: there is no [[{kind}]]", remedy="add at least one")
    if schema.fps is not None and not 0 < schema.fps < float("inf"):
        raise SchemaError(f"{location}: fps = {schema.fps}", remedy="give frames per second")
    if schema.gripper != "unknown" and (schema.gripper == "none") == bool(schema.gripper_dims):
        raise SchemaError(
            f"{location}: gripper = {schema.gripper!r}, with gripper columns {schema.gripper_dims}",
            remedy='name its columns "gripper" in dims; gripper = "none" means no gripper',
        )
