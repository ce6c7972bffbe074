"""The next block of a clip is read while the one before is worked on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from depthtok.data import DepthClip
from depthtok.depth import StoredDepth


def disparity_blocks(clip: StoredDepth, size: int) -> Iterator[DepthClip]:
    """A clip as disparity, `size` frames at a time; one block is read ahead by a thread.

    What reading raises is raised here, in its turn.
    """

    def read(start: int) -> DepthClip:
        return clip.read(start, min(start + size, len(clip))).to_disparity()

    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as reader:
        coming = reader.submit(read, 0) if len(clip) else None
        for start in range(0, len(clip), size):
            block = coming.result()
            if start + size < len(clip):
                coming = reader.submit(read, start + size)
            yield block
