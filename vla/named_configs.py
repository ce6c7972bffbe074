"""Configurations by name: presets, ablations on top of them, files.

A preset is TOML in `vla/presets/`, an ablation TOML in `vla/presets/ablations/`: `tiny+causal`
applies the ablation to the preset. A file is TOML (its `base` names the preset that it extends) or
a saved `config.json`. Dotted overrides (`"train.lr": 1e-4`) are applied last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from depthtok.config import load_toml, merged, nested
from depthtok.disk.regular import require_file
from depthtok.errors import ConfigError
from depthtok.required import one_of
from vla.config import Config

PRESETS = Path(__file__).parent / "presets"


def presets() -> list[str]:
    """Names of the shipped presets."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def ablations() -> list[str]:
    """Names of the shipped ablations; each can be applied to any preset: `tiny+causal`."""
    return sorted(path.stem for path in (PRESETS / "ablations").glob("*.toml"))


def load(name_or_path: str | Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """The configuration of a preset or file (TOML, or a saved `config.json`), with ablations after
    `+`, and dotted overrides applied last."""
    base, *changes = str(name_or_path).split("+")
    data = _read(base)
    for change in changes:
        one_of("ablation", change, tuple(ablations()))
        data = merged(data, load_toml(PRESETS / "ablations" / f"{change}.toml"))
    if changes:
        data["name"] = str(name_or_path)
    return Config.from_json(merged(data, nested(overrides or {})))


def _read(name_or_path: str) -> dict:
    """The raw settings; `base` names the preset that a TOML file extends."""
    path = Path(name_or_path)
    if not path.suffix:
        one_of("preset", name_or_path, tuple(presets()))
        path = PRESETS / f"{name_or_path}.toml"
    require_file(path)
    if not path.is_file():
        raise ConfigError(
            f"there is no settings file {path}", remedy=f"presets: {', '.join(presets())}"
        )
    if path.suffix == ".json":
        return json.loads(path.read_text())
    data = {"name": path.stem} | load_toml(path)
    base = data.pop("base", None)
    return merged(_read(base), data) if base else data
