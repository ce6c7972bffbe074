"""Configurations by name: presets, ablations on top of them, files.

A preset is TOML in `vla/presets/`, an ablation TOML in `vla/presets/ablations/`: `tiny+causal`
applies the ablation to the preset. A file is TOML (its `base` names the preset that it extends) or
a saved `config.json`. Dotted overrides (`"train.lr": 1e-4`) are applied last.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from depthtok.config import load_toml, merged, nested
from depthtok.disk.json_files import read_json_object
from depthtok.disk.regular import require_file
from depthtok.errors import ConfigError
from depthtok.presets import FILES, file_of, names
from vla.config import Config

PRESETS = Path(__file__).parent / "presets"
ABLATIONS = PRESETS / "ablations"


def presets() -> list[str]:
    """Names of the shipped presets."""
    return names(PRESETS)


def ablations() -> list[str]:
    """Names of the shipped ablations; each can be applied to any preset: `tiny+causal`."""
    return names(ABLATIONS)


def load(name_or_path: str | Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """The configuration of a preset or file (TOML, or a saved `config.json`), with ablations after
    `+`, and dotted overrides applied last."""
    base, *changes = _parts(str(name_or_path))
    data = _read(base)
    for change in changes:
        data = merged(data, load_toml(file_of(ABLATIONS, change, "ablation")))
    if changes:
        data["name"] = str(name_or_path)
    return Config.from_json(merged(data, nested(overrides or {})))


def _parts(text: str) -> list[str]:
    """A preset or file, and the ablations after it. A path may have a plus of its own: a run that
    is named after its settings does."""
    parts = text.split("+")
    for count in range(len(parts), 1, -1):
        path = "+".join(parts[:count])
        if path.endswith(FILES) and Path(path).is_file():
            return [path, *parts[count:]]
    return parts


def _read(name_or_path: str) -> dict:
    """The raw settings; `base` names the preset that a TOML file extends."""
    path = file_of(PRESETS, name_or_path)
    require_file(path)
    if not path.is_file():
        raise ConfigError(
            f"there is no settings file {path}", remedy=f"presets: {', '.join(presets())}"
        )
    if path.suffix == ".json":
        return read_json_object(path, "give the config.json of a run")
    data = {"name": path.stem} | load_toml(path)
    base = data.pop("base", None)
    return merged(_read(base), data) if base else data
