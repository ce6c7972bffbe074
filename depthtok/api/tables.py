"""The tables of a TOML file that describes several commands: those of a run, or of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from depthtok.config import convert
from depthtok.errors import ConfigError, did_you_mean


def read_tables(
    content: Mapping[str, object],
    kinds: Mapping[str, object],
    needed: Sequence[str],
    where: str,
    example: str,
) -> dict[str, Any]:
    """The values of a file, of the types in `kinds`. Raises `ConfigError` for a key that is not
    among these, for a value of another type, and, with an example, where one of `needed` is not
    given or empty."""
    for key in content:
        if key not in kinds:
            raise ConfigError(f"{where}: there is no {key!r}", remedy=did_you_mean(key, [*kinds]))
    values = {
        key: convert(value, kinds[key], f"{where}: {heading(key, kinds[key])}")
        for key, value in content.items()
    }
    for key in needed:
        if not values.get(key):
            raise ConfigError(f"{where}: `{key}` is not given", remedy=example)
    return values


def heading(key: str, kind: object) -> str:
    """How a file shows a key: `[convert]` for a table, the name of another value in backticks."""
    return f"[{key}]" if getattr(kind, "__origin__", None) is dict else f"`{key}`"
