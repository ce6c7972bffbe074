"""Where an export keeps what depthtok records of it: a file that tells it from other data sets."""

from __future__ import annotations

from pathlib import Path

from depthtok.remote.errors import Refused

LEROBOT, RLDS = "meta/depthtok.json", "depthtok.json"


def record_of(path: Path) -> Path | None:
    """The record of the export at `path`; None where there is none."""
    return next((record for name in (LEROBOT, RLDS) if _is_there(record := path / name)), None)


def _is_there(path: Path) -> bool:
    """A server that refuses to say, as buckets do of what they lack, has none."""
    try:
        return path.is_file()
    except Refused:
        return False
