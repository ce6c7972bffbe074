"""Read-ahead: the next frames of a clip are read while the current ones are processed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from depthtok.data import DepthClip
from depthtok.depth import StoredDepth


def disparity_blocks(clip: StoredDepth, read: int, size: int) -> Iterator[DepthClip]:
    """A clip as disparity, `size` frames at a time. A thread reads `read` frames (a multiple) per
    call, because calls to the store have overhead, and stays one read ahead. Frames are unpacked in
    small blocks, because memory for large ones would be newly mapped each time, and its page faults
    cost more than the arithmetic.

    Errors from reading are raised here, in order.
    """
    starts = range(0, len(clip), read)

    def packed(start: int) -> np.ndarray:
        return clip.stored(start, min(start + read, len(clip)))

    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as reader:
        reads = deque(reader.submit(packed, start) for start in starts[:1])
        for start in starts:
            rows = reads.popleft().result()
            if start + read < len(clip):
                reads.append(reader.submit(packed, start + read))
            for row in range(0, len(rows), size):
                yield clip.unpacked(rows[row : row + size]).to_disparity()
