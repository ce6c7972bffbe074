"""The schema with which `depthtok convert` reads an export: the meaning of its columns, and which
feature is what. It lies in the export as `schema.toml`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from depthtok.data import Camera
from depthtok.meaning import UNKNOWN, Column, Meaning

READ_BACK = "# How depthtok reads this export: `depthtok convert DIR --schema DIR/schema.toml`."
WITHOUT_ACTIONS = "# What this export has. It has no actions: `depthtok convert` does not read it."


@dataclass(frozen=True)
class CameraFeatures:
    """What the export has of one camera. `depth_unit` is "m", "mm" or "" for none, `depth_size` its
    height and width, px."""

    camera: Camera
    key: str
    depth_key: str = ""
    depth_unit: str = ""
    depth_size: tuple[int, int] = (0, 0)

    def depth_lines(self) -> list[str]:
        """Where the depth is. As a comment where it has not the pictures' size: `convert` reads
        only depth that fits the picture pixel by pixel."""
        lines = _lines({"depth_key": self.depth_key, "depth_unit": self.depth_unit})
        if not self.depth_key:
            return []
        if self.depth_size == (self.camera.height, self.camera.width):
            return lines
        height, width = self.depth_size
        return [f"# depth of {height} x {width} px, not the pictures' size:", f"# {lines[0]}"]


@dataclass(frozen=True)
class ColumnKeys:
    """The features of instructions, actions and states."""

    instruction: str
    action: str
    state: str


def schema_text(
    name: str,
    meaning: Meaning,
    cameras: Sequence[CameraFeatures],
    keys: ColumnKeys,
) -> str:
    """TOML."""
    lines: list[str] = [
        READ_BACK if meaning.action else WITHOUT_ACTIONS,
        f"datasets = {_toml([name])}",
        'status = "verified"',
        "",
        f"fps = {meaning.fps if meaning.fps is not None else _toml(UNKNOWN)}",
        f"instruction = {_toml(keys.instruction)}",
        f"gripper = {_toml(meaning.gripper)}",
    ]
    for camera in cameras:
        table: dict[str, object] = {"name": camera.camera.name, "key": camera.key}
        table["orientation"] = camera.camera.orientation.value
        lines += ["", "[[camera]]", *_lines(table), *camera.depth_lines()]
    for kind, key, columns in (
        ("action", keys.action, meaning.action),
        ("proprio", keys.state, meaning.proprio),
    ):
        if columns:
            lines += ["", f"[[{kind}]]", *_lines({"from": key, **_columns(columns)})]
    return "\n".join(lines) + "\n"


def _columns(columns: Sequence[Column]) -> dict[str, object]:
    table: dict[str, object] = {"dims": [column.name for column in columns]}
    table["reference"] = [column.reference for column in columns]
    table["unit"] = [column.unit for column in columns]
    return table


def _lines(table: Mapping[str, object]) -> list[str]:
    return [f"{name} = {_toml(value)}" for name, value in table.items()]


def _toml(value: object) -> str:
    """A value as TOML, which has JSON's strings and lists, but not its pairs of escapes for one
    character."""
    return json.dumps(value, ensure_ascii=False)
