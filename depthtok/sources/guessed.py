"""Units of depth that a draft guessed, and nobody has checked: its comment still says so."""

from __future__ import annotations

import re

GUESSED = "check: a guess by dtype"  # the comment, as drafts write it

_CAMERA = re.compile(r"^[ \t]*\[\[[ \t]*camera[ \t]*\]\](.*?)(?=^[ \t]*\[|\Z)", re.M | re.S)
_NAME = re.compile(r"""^[ \t]*name[ \t]*=[ \t]*["']([^"'\n]*)["']""", re.M)
_UNIT = re.compile(rf"^[ \t]*depth_unit[ \t]*=[^#\n]*#[ \t]*{re.escape(GUESSED)}", re.M)


def guessed_units(text: str) -> tuple[str, ...]:
    """The cameras in a schema's TOML text whose `depth_unit` is a draft's guess."""
    tables = (match[1] for match in _CAMERA.finditer(text))
    names = (_NAME.search(table) for table in tables if _UNIT.search(table))
    return tuple(name[1] for name in names if name)
