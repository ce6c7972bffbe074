"""Estimators of single frames flicker: here the scale and shift of a clip's frames are aligned, in
disparity, on the way to the store.

`causal` fits each frame to the one before it, and lets what has added up fade: the scale and shift
of a clip become a slow mean of the estimator's own, which neither flickers nor drifts away. `clip`
fits every frame to the median of all, which suits cameras that stand still; its frames wait in a
temporary file until the clip is whole. Fits are made on a coarse grid of pixels (`fits.py`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO

import numpy as np
from jaxtyping import Float64

from depthtok.data import DepthBlock, DepthClip, DepthKind
from pipelines.depth.single_frames.fits import IDENTITY, Fit, Samples, fit_all, fit_to, flicker_of

GRID = 48  # samples along each side at most
MEMORY = 0.98  # share of the logarithm of the scale, and of the shift, that stays at each frame
AT_ONCE = 16  # frames that leave the temporary file together
REACH = 2.0  # aligned depth stays within this factor of what its frame had


@dataclass
class Steadiness:
    """How frames are aligned, and what that did: flicker is the median change of disparity from
    frame to frame as a share of its range, before and after, as a mean over pairs of frames."""

    mode: str = "off"
    clips: int = 0
    pairs: int = 0
    before: float = 0.0
    after: float = 0.0

    def note(self, before: float, after: float) -> None:
        """Adds the flicker of two consecutive frames."""
        self.pairs, self.before, self.after = (
            self.pairs + 1,
            self.before + before,
            self.after + after,
        )

    def take(self) -> dict[str, float | int | str]:
        """The figures since they were last taken."""
        pairs = max(self.pairs, 1)
        figures: dict[str, float | int | str] = {
            "mode": self.mode,
            "clips": self.clips,
            "pairs": self.pairs,
            "flicker_before": round(self.before / pairs, 6),
            "flicker_after": round(self.after / pairs, 6),
        }
        self.clips, self.pairs, self.before, self.after = 0, 0, 0.0, 0.0
        return figures


def steadied(
    blocks: Iterator[tuple[DepthBlock, bool]], steadiness: Steadiness
) -> Iterator[DepthBlock]:
    """The blocks, aligned within each clip. With each block comes whether its clip ends with it."""
    if steadiness.mode == "off":
        yield from (block for block, _ in blocks)
        return
    make = _Causal if steadiness.mode == "causal" else _WholeClip
    clip: _Causal | _WholeClip | None = None
    for block, last in blocks:
        clip = clip or make(steadiness)
        if block.depth is None:
            clip.close()
            clip = None
            yield block
            continue
        yield from (replace(block, depth=depth) for depth in clip.add(block.depth))
        if last:
            yield from (replace(block, depth=depth) for depth in clip.rest())
            steadiness.clips += 1
            clip.close()
            clip = None


@dataclass
class _Causal:
    """A clip whose frames are aligned to those before."""

    steadiness: Steadiness
    fit: Fit = field(default_factory=IDENTITY.copy)  # of the frame before
    last: Samples | None = None  # of the frame before, as it came

    def add(self, depth: DepthClip) -> Iterator[DepthClip]:
        """Aligned frames, as many as came."""
        yield aligned(depth, np.stack([self._next(samples) for samples in _samples(depth)]))

    def _next(self, samples: Samples) -> Fit:
        """The fit of the next frame: onto the last one, then as that was, faded."""
        if self.last is not None:
            scale, shift = fit_to(samples, self.last)
            before = self.fit
            added = before[0] * scale, before[0] * shift + before[1]
            self.fit = np.array((added[0] ** MEMORY, added[1] * MEMORY))
            straight = [s * f[0] + f[1] for s, f in ((self.last, before), (samples, self.fit))]
            self.steadiness.note(flicker_of(self.last, samples), flicker_of(*straight))
        self.last = samples
        return self.fit

    def rest(self) -> Iterator[DepthClip]:
        """Nothing: every frame was handed out as it came."""
        return iter(())

    def close(self) -> None:
        """There is nothing to close."""


@dataclass
class _WholeClip:
    """A clip whose frames are aligned to the median of all."""

    steadiness: Steadiness
    samples: list[Samples] = field(default_factory=list)
    file: BinaryIO = field(default_factory=tempfile.TemporaryFile)
    first: DepthClip | None = None  # without frames: its size, kind and shift

    def add(self, depth: DepthClip) -> Iterator[DepthClip]:
        """Nothing yet: the frames go to the temporary file."""
        self.samples.extend(_samples(depth))
        self.first = replace(depth, values=depth.values[:0], valid=depth.valid[:0])
        values = np.where(depth.valid, depth.values, np.float32(np.nan))
        self.file.write(np.ascontiguousarray(values).data)
        return iter(())

    def rest(self) -> Iterator[DepthClip]:
        """All frames, aligned."""
        assert self.first is not None
        fits = fit_all(np.stack(self.samples))
        straight = [s * fit[0] + fit[1] for s, fit in zip(self.samples, fits, strict=True)]
        for step in range(1, len(straight)):
            before = flicker_of(self.samples[step - 1], self.samples[step])
            self.steadiness.note(before, flicker_of(straight[step - 1], straight[step]))
        self.file.seek(0)
        height, width = self.first.values.shape[1:]
        for start in range(0, len(fits), AT_ONCE):
            some = fits[start : start + AT_ONCE]
            data = self.file.read(len(some) * height * width * np.dtype(np.float32).itemsize)
            values = np.frombuffer(data, np.float32).reshape(-1, height, width)
            valid = ~np.isnan(values)
            frames = replace(self.first, values=np.where(valid, values, 0), valid=valid)
            yield aligned(frames, some)

    def close(self) -> None:
        """Deletes the temporary file."""
        self.file.close()


def _samples(depth: DepthClip) -> Iterator[Samples]:
    """A grid of each frame's disparity; NaN where it is not valid."""
    rows, columns = (max(1, -(-side // GRID)) for side in depth.values.shape[1:])
    disparity = depth.to_disparity()
    grid = np.s_[:, rows // 2 :: rows, columns // 2 :: columns]
    values = np.where(disparity.valid[grid], disparity.values[grid], np.nan)
    yield from values.astype(np.float64).reshape(len(depth), -1)


def aligned(depth: DepthClip, fits: Float64[np.ndarray, "T 2"]) -> DepthClip:
    """Frames with the disparity of each scaled and shifted, of the kind that they were of.

    Disparity stays at least 0; a distance stays within twice its frame's largest and half its
    smallest, where a shift would put it behind infinity or the camera.
    """
    disparity = depth.to_disparity()
    scale, shift = (fits[:, number, None, None].astype(np.float32) for number in (0, 1))
    straight = disparity.values * scale + shift
    if depth.kind is DepthKind.DISPARITY:
        return replace(depth, values=np.where(depth.valid, np.maximum(straight, 0), np.float32(0)))
    values = np.where(depth.valid, depth.values, np.float32(np.nan)).reshape(len(depth), -1)
    nearest = np.fmin.reduce(values, axis=1)[:, None, None] / np.float32(REACH)
    farthest = np.fmax.reduce(values, axis=1)[:, None, None] * np.float32(REACH)
    farthest = np.where(farthest > 0, farthest, np.float32(1))  # a frame without a valid pixel
    nearest = np.where(nearest > 0, nearest, np.float32(0))
    least = 1 / (farthest + np.float32(depth.shift))  # above 0, so that nothing is divided by 0
    distance = 1 / np.maximum(straight, least) - np.float32(depth.shift)
    distance = np.clip(distance, nearest, farthest)
    return replace(depth, values=np.where(depth.valid, distance, np.float32(0)))
