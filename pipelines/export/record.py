"""Where an export keeps what depthtok records of it: a file that tells it from other data sets."""

from __future__ import annotations

from pathlib import Path

LEROBOT, RLDS = "meta/depthtok.json", "depthtok.json"


def record_of(path: Path) -> Path | None:
    """The record of the export at `path`; None where there is none."""
    records = (path / LEROBOT, path / RLDS)
    return next((record for record in records if record.is_file()), None)
