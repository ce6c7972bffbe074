"""Units of depth that a draft guessed, and nobody has checked: its comment still says so."""

from __future__ import annotations

import re

GUESSED = "check: a guess by dtype"  # the comment, as drafts write it

# An array's rows, which may look like it, have commas.
_TABLE = r"^[ \t]*\[{1,2}[ \t]*[A-Za-z0-9_.\"'-]+[ \t]*\]{1,2}[ \t]*(?:#.*)?$"
_CAMERA = re.compile(rf"^[ \t]*\[\[[ \t]*camera[ \t]*\]\](.*?)(?={_TABLE}|\Z)", re.M | re.S)
_NAME = re.compile(r"""^[ \t]*name[ \t]*=[ \t]*["']([^"'\n]*)["']""", re.M)
_UNIT = re.compile(rf"^[ \t]*depth_unit[ \t]*=[^#\n]*#[ \t]*{re.escape(GUESSED)}", re.M)


def guessed_units(text: str) -> tuple[str, ...]:
    """The cameras in a schema's TOML text whose `depth_unit` is a draft's guess."""
    tables = (match[1] for match in _CAMERA.finditer(text))
    names = (_NAME.search(table) for table in tables if _UNIT.search(table))
    return tuple(name[1] for name in names if name)
