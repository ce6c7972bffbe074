"""Configurations by name: presets, ablations on top of them, files.

A preset is TOML in `vla/presets/`, an ablation TOML in `vla/presets/ablations/`: `tiny+causal` is
one on top of the other. A file is TOML (its `base` names the preset that it refines) or a saved
`config.json`. Dotted overrides (`"train.lr": 1e-4`) go last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from depthtok.config import load_toml
from depthtok.errors import ConfigError
from vla.config import Config, merged, nested, one_of

PRESETS = Path(__file__).parent / "presets"


def presets() -> list[str]:
    """Names of the presets that ship."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def ablations() -> list[str]:
    """Names of the ablations that ship; each changes any preset: `tiny+causal`."""
    return sorted(path.stem for path in (PRESETS / "ablations").glob("*.toml"))


def load(name_or_path: str | Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """A preset or a file (TOML, or a saved `config.json`), ablations after `+`, and dotted
    overrides on top."""
    base, *changes = str(name_or_path).split("+")
    data = _read(base)
    for change in changes:
        one_of("ablation", change, tuple(ablations()))
        data = merged(data, load_toml(PRESETS / "ablations" / f"{change}.toml"))
    if changes:
        data["name"] = str(name_or_path)
    return Config.from_json(merged(data, nested(overrides or {})))


def _read(name_or_path: str) -> dict:
    """The raw settings; `base` names the preset that a TOML file refines."""
    path = Path(name_or_path)
    if not path.suffix:
        one_of("preset", name_or_path, tuple(presets()))
        path = PRESETS / f"{name_or_path}.toml"
    if not path.is_file():
        raise ConfigError(f"no settings at {path}", remedy=f"presets: {', '.join(presets())}")
    if path.suffix == ".json":
        return json.loads(path.read_text())
    data = {"name": path.stem} | load_toml(path)
    base = data.pop("base", None)
    return merged(_read(base), data) if base else data
