"""What a store remembers of the times of its source's files: no part of its content.

The file may be absent, out of date, damaged, or written by many jobs at once: an entry that is lost
costs another check of the file that it was of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from depthtok.disk.files import write_atomic
from depthtok.errors import OutputError
from depthtok.stores.spec import SEEN


def recall(store: Path) -> dict[str, list]:
    """By part: sizes and times of its source, and last the digest that they stand for."""
    try:
        entries = json.loads((store / SEEN).read_bytes())
        return {str(name): list(entry) for name, entry in entries.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def keep(store: Path, new: Mapping[str, list]) -> None:
    """Adds entries to what other jobs may have written since. Where the file cannot be written, the
    next run checks again."""
    remembered = recall(store)
    entries = {**remembered, **new}
    if entries != remembered:
        with suppress(OSError, OutputError):
            write_atomic(store / SEEN, json.dumps(entries, sort_keys=True, indent=0))
