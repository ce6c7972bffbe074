"""Reads files of JSON."""

from __future__ import annotations

import json
from pathlib import Path

from depthtok.disk.regular import reading, require_file, require_given
from depthtok.errors import CorruptPart


def read_json_object(path: Path, remedy: str) -> dict:
    """The object in a JSON file. Raises `CorruptPart` where there is none."""
    require_file(path)
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        require_given(path, error)
        raise CorruptPart(f"{path} cannot be read: {error}", remedy=remedy) from error
    if not isinstance(content, dict):
        raise CorruptPart(f"{path} holds no JSON object", remedy=remedy)
    return content


def read_json_lines(path: Path) -> list[dict]:
    """The objects of a file that has one a line. A last line whose writer was stopped in the middle
    of it is left out. Raises `CorruptPart` for any other that is not JSON."""
    require_file(path)
    with reading(path):
        lines = path.read_bytes().splitlines()  # text would be cut at U+2028, too
    objects = []
    for number, line in enumerate(lines, 1):
        try:
            objects.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise CorruptPart(
                    f"line {number} of {path} is not JSON", remedy="delete that line"
                ) from error
    return objects
