"""The frames of each window, in closed form, and which of its outputs are needed.

Upstream goes through a clip in windows of 32 frames with a stride of 22. A window after the first
has two keyframes (the first frame of the clip, and slot 12 of the previous window), the last eight
frames of the previous window, and 22 new ones. Its *inputs* do not depend on earlier outputs, so
everything follows from the number of frames alone:

    window 0      frames 0, 1, ..., 31
    window k      frames 0, 22k - 10, 22k + 2, 22k + 3, ..., 22k + 31       (k >= 1)

where an index past the end stands for the last frame. The eight shared frames are blended with
weights i/7, i = 0..7, so the first of them needs no output of the later window and the last none
of the earlier one. A last window whose frames were all finalised by the previous one is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.depth.vida.config import WINDOW

STEP = 22  # frames from one window to the next
KEYFRAMES = 2  # slots 0 and 1 of a window after the first
SECOND_KEY = 12  # the slot that becomes the next window's second keyframe
TAIL = 24  # the next window contains the slots from here on again
OVERLAP = WINDOW - TAIL


@dataclass(frozen=True)
class Window:
    """One pass of the network over 32 slots.

    `needed` are the slots whose depth is used, `fresh` the frames no earlier window has encoded,
    `carried` those that the next window contains again, `final` the frames finalised by this
    window. `fresh` and `final` are half-open intervals.
    """

    index: int
    frames: tuple[int, ...]
    needed: tuple[int, ...]
    fresh: tuple[int, int]
    carried: tuple[int, ...]
    final: tuple[int, int]

    @property
    def last(self) -> bool:
        """Whether the clip ends here."""
        return not self.carried


def window_count(frames: int) -> int:
    """The number of windows of a clip."""
    return max(1, -(-(frames - KEYFRAMES - 1) // STEP))


def window_frames(index: int, frames: int) -> tuple[int, ...]:
    """The 32 frames of a window."""
    start = STEP * index
    head = (0, start - STEP + SECOND_KEY) if index else (0, 1)
    body = range(start + KEYFRAMES, start + WINDOW)
    return tuple(min(frame, frames - 1) for frame in (*head, *body))


def plan(frames: int, *, align: bool) -> Iterator[Window]:
    """The windows of a clip of `frames` frames, in order.

    `align`: windows are fitted to each other on the keyframes, as for relative depth, so that slots
    0 and 1 are needed too.
    """
    count = window_count(frames)
    return (_window(index, count, frames, align) for index in range(count))


def _window(index: int, count: int, frames: int, align: bool) -> Window:
    start, last = STEP * index, index == count - 1
    first_fresh = min(start - STEP + WINDOW, frames) if index else 0
    keys = range(KEYFRAMES) if align and index else ()
    first = KEYFRAMES + 1 if index else 0
    stop = min(WINDOW - (not last), frames - start)
    final = (start + KEYFRAMES if index else 0, frames if last else start + TAIL)
    carried = () if last else _carried(index, frames)
    return Window(
        index=index,
        frames=window_frames(index, frames),
        needed=(*keys, *range(first, stop)),
        fresh=(first_fresh, min(start + WINDOW, frames)),
        carried=carried,
        final=final,
    )


def _carried(index: int, frames: int) -> tuple[int, ...]:
    """Frames of this window that the next one contains again, in ascending order."""
    start = STEP * index
    tail = range(start + TAIL, min(start + WINDOW, frames))
    return tuple(sorted({0, start + SECOND_KEY, *tail}))
