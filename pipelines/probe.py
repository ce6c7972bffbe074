"""Measuring a stage on a few items, for `--plan`: their time, and what they would write.

Every stage has a `probe`, which uses what is here. Nothing is written, but to a temporary folder.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from depthtok.stores.arrays import STREAM_SHARD, ArraySpec, ArrayWriter
from pipelines.stage import Probe, WorkPart

FRAMES = 32  # frames of one clip: an estimator's window
EPISODES = 8  # tried of each part


Make = Callable[[WorkPart, int, int], tuple[int, int]]
"""Processes the first frames of an episode, given its part, its row there and the number of frames.
Returns the number of frames made (0 if the run would record a failure) and their bytes."""


def timed(make: Make, parts: Sequence[WorkPart]) -> Probe | None:
    """Times the first episode that works: tries the first of every part, then the second, ..."""
    for row in range(EPISODES):
        for part in (part for part in parts if row < part.episodes):
            if not make(part, row, 1)[0]:  # warm-up: imports, loads and compiles
                continue
            started = time.monotonic()
            frames, size = make(part, row, FRAMES)
            if frames:
                return Probe(frames, time.monotonic() - started, size)
    return None


def packed_bytes(values: np.ndarray) -> int:
    """Bytes on disk of some rows of a stream."""
    with tempfile.TemporaryDirectory() as folder:
        spec = ArraySpec(values.dtype.name, values.shape[1:], stream=True)
        writer = ArrayWriter(Path(folder), "depth", spec)
        writer.append(values[:STREAM_SHARD])
        writer.close()
        return sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file())
