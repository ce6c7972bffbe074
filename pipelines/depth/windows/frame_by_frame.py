"""Stitching the windows of large frames: the same numbers as `align.Stitcher`, bit for bit, with
two maps of the frames' size in memory instead of forty.

What is kept between windows is depth at the size of the network's output, and the scale and shift
that it was fitted with; a frame gets its own size when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from pipelines.depth.vida.head import resize
from pipelines.depth.windows.align import fit_in_place
from pipelines.depth.windows.plan import KEYFRAMES, OVERLAP, SECOND_KEY, TAIL, Window

Fit = tuple[Tensor, Tensor]  # scale, shift
Size = tuple[int, int]  # px


@dataclass(frozen=True)
class _Small:
    """The depth of one frame at the network's size, and what it is to be fitted with."""

    depth: Float[Tensor, "h w"]
    fit: Fit | None = None

    def at(self, size: Size) -> Float[Tensor, "H W"]:
        """At the size of a frame."""
        depth = resize(self.depth[None, None], size)[0, 0]
        if self.fit is None:
            return depth
        scale, shift = self.fit
        return depth.mul_(scale).add_(shift).clamp_min_(0)


class FrameStitcher:
    """The state of one clip of large frames between windows."""

    def __init__(self, *, align: bool) -> None:
        self.align = align
        self._first: _Small | None = None  # slot 0 of window 0, never changed
        self._key: _Small | None = None  # slot 12 of the previous window
        self._tail: list[_Small] = []  # slots 24 to 30 of the previous window

    def add(
        self, window: Window, depth: Float[Tensor, "n h w"], size: Size
    ) -> Iterator[Callable[[], Float[Tensor, "H W"]]]:
        """Takes the depth of the window's needed slots; returns how to make each of its final
        frames."""
        row = {slot: index for index, slot in enumerate(window.needed)}
        frames = [_Small(frame.clone()) for frame in depth]
        if window.index == 0:
            self._first = frames[0]
        elif self.align:
            fit = self._fit(frames[row[0] : row[1] + 1], size)
            frames = [replace(frame, fit=fit) for frame in frames]
        tail = self._tail
        if not window.last:
            self._tail = frames[row[TAIL] :]
            self._key = frames[row[SECOND_KEY]] if self.align else None
        if window.index == 0:
            return (_resized(frame, size) for frame in frames[: window.final[1]])
        return self._blended(window, frames, tail, size)

    def _fit(self, keys: list[_Small], size: Size) -> Fit:
        x, y = (
            torch.empty((len(maps), *size), dtype=torch.float64, device=keys[0].depth.device)
            for maps in (keys, keys)
        )
        targets = [target for target in (self._first, self._key) if target is not None]
        for row, (key, target) in enumerate(zip(keys, targets, strict=True)):
            x[row], y[row] = key.at(size), target.at(size)
        scale, shift = fit_in_place(x, y).to(keys[0].depth.dtype)
        return scale, shift

    def _blended(
        self, window: Window, frames: list[_Small], tail: list[_Small], size: Size
    ) -> Iterator[Callable[[], Float[Tensor, "H W"]]]:
        """Cross-fades from the previous window to this one over eight frames."""
        fresh = frames[KEYFRAMES if self.align else 0 :]  # from slot 3 on
        length = window.final[1] - window.final[0]
        shared = min(OVERLAP - 2, length - 1)
        weights = torch.arange(1, shared + 1, device=frames[0].depth.device) / (OVERLAP - 1)
        yield _resized(tail[0], size)
        for weight, before, after in zip(weights, tail[1:], fresh, strict=False):
            yield _mixed(weight, before, after, size)
        for frame in fresh[shared : length - 1]:
            yield _resized(frame, size)


def _resized(frame: _Small, size: Size) -> Callable[[], Float[Tensor, "H W"]]:
    return lambda: frame.at(size)


def _mixed(
    weight: Float[Tensor, ""], before: _Small, after: _Small, size: Size
) -> Callable[[], Float[Tensor, "H W"]]:
    return lambda: before.at(size).mul_(1 - weight).add_(after.at(size).mul_(weight))
