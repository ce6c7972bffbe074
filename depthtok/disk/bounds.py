"""How much memory pictures may take: limits in bytes and pixels.

A frame beyond `LARGEST_FRAME` is refused by its header, before it is decoded. Frames up to there
are worked on in blocks of so many that a block stays within `AT_ONCE`, and at least one.
"""

from __future__ import annotations

LARGEST_FRAME = 1 << 25
"""Pixels of one frame: a video of 8K has 33.2 million."""

LARGEST_FILE = 1 << 28
"""Bytes of one encoded picture: eight for each pixel of the largest frame."""

AT_ONCE = 512 << 20
"""Bytes of frames, in the form that takes most, that are worked on together."""


def too_large(height: int, width: int) -> str | None:
    """Why a frame of this size is not decoded; None for one that may be."""
    if height * width <= LARGEST_FRAME:
        return None
    return (
        f"{width} x {height} px are {height * width / 1e6:,.1f} million pixels, more than the "
        f"{LARGEST_FRAME / 1e6:.1f} million that a frame may have"
    )


def together(frame_bytes: int, most: int, limit: int = AT_ONCE) -> int:
    """How many frames of this many bytes are worked on at once: 1 to `most`, within `limit`."""
    return max(1, min(most, limit // max(frame_bytes, 1)))
