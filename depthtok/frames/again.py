"""Frames of files that lie elsewhere, of which the copy in the cache may be damaged: the bytes that
were recorded tell whether it is that, or the file itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from depthtok.errors import CorruptRecord
from depthtok.frames.kinds import FrameSource, Rows
from depthtok.remote.recorded import RecordedLocation


def frames_of(source: FrameSource, files: Sequence[Path], rows: Rows) -> Iterator[np.ndarray]:
    """As `FrameSource.frames`; where a copy in the cache is damaged, from a new one."""
    count = 0
    try:
        for frame in source.frames(files, rows):
            yield frame
            count += 1
    except CorruptRecord:
        if not _dropped(files):
            raise
        yield from source.frames(files, rows[count:])


def _dropped(files: Sequence[Path]) -> bool:
    """Removes the copies that are damaged; whether there were any."""
    elsewhere = [path for path in files if isinstance(path, RecordedLocation)]
    if not elsewhere:
        return False
    from depthtok.remote.whole import drop_damaged

    damaged = [path for path in elsewhere if drop_damaged(path)]
    return bool(damaged)
