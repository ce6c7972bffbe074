"""Metrics of a reconstruction: errors, edges, code usage, flips, accumulated over frames.

All figures are over the pixels or cells of the whole data set, not means of per-frame means.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

EDGE_RATIO = 1.10
"""Metres: there is an edge where a pixel is this many times farther than its neighbour."""
EDGE_STEP = 0.05
"""Normalised disparity: there is an edge where two neighbours differ by more than this."""
STATIC_M = 0.002
"""Metres: a cell is static between two frames if none of its pixels changes by this much."""
STATIC_STEP = 0.02
"""The same for normalised disparity."""

Frames = Float32[np.ndarray, "T H W"]
Mask = Bool[np.ndarray, "T H W"]


@dataclass
class DepthErrors:
    """Errors of depth in metres."""

    pixels: int = 0
    relative: float = 0.0
    squared: float = 0.0
    within_25: int = 0
    within_05: int = 0

    def add(self, predicted: Frames, true: Frames, mask: Mask) -> None:
        """Add the pixels of `mask`; both depths are positive there."""
        predicted, true = predicted[mask].astype(np.float64), true[mask].astype(np.float64)
        ratio = np.maximum(predicted / true, true / predicted)
        self.pixels += len(true)
        self.relative += float((np.abs(predicted - true) / true).sum())
        self.squared += float(np.square(predicted - true).sum())
        self.within_25 += int((ratio < 1.25).sum())
        self.within_05 += int((ratio < 1.05).sum())

    def report(self) -> dict[str, float]:
        """AbsRel, RMSE (m), and the shares of pixels within a factor of 1.25 and 1.05."""
        number = max(self.pixels, 1)
        return {
            "abs_rel": self.relative / number,
            "rmse_m": math.sqrt(self.squared / number),
            "delta_1_25": self.within_25 / number,
            "delta_1_05": self.within_05 / number,
            "pixels": self.pixels,
        }


@dataclass
class MeanError:
    """Mean absolute error of normalised disparity."""

    pixels: int = 0
    total: float = 0.0

    def add(self, predicted: Frames, true: Frames, mask: Mask) -> None:
        """Add the pixels of `mask`."""
        self.pixels += int(mask.sum())
        self.total += float(np.abs(predicted - true, dtype=np.float64)[mask].sum())

    def report(self) -> dict[str, float]:
        return {"l1": self.total / max(self.pixels, 1), "pixels": self.pixels}


@dataclass
class EdgeScore:
    """Precision and recall of edge pixels, with a tolerance of one pixel in every direction."""

    predicted: int = 0
    predicted_right: int = 0
    true: int = 0
    true_found: int = 0

    def add(self, predicted: Mask, true: Mask, mask: Mask | None = None) -> None:
        """Add edge pixels, those inside `mask` if one is given."""
        near_true, near_predicted = _spread(true), _spread(predicted)
        if mask is not None:
            predicted, true = predicted & mask, true & mask
        self.predicted += int(predicted.sum())
        self.predicted_right += int((predicted & near_true).sum())
        self.true += int(true.sum())
        self.true_found += int((true & near_predicted).sum())

    def report(self) -> dict[str, float]:
        """F1, precision, recall; 0 where there is no edge to find."""
        precision = self.predicted_right / max(self.predicted, 1)
        recall = self.true_found / max(self.true, 1)
        both = precision + recall
        return {
            "edge_f1": 2 * precision * recall / both if both else 0.0,
            "edge_precision": precision,
            "edge_recall": recall,
        }


def edges_metres(depth: Frames, valid: Mask) -> Mask:
    """Pixels whose right or lower neighbour is nearer or farther by more than `EDGE_RATIO`."""
    log = np.log(np.where(valid, depth, np.float32(1)))
    return _edges(log, valid, math.log(EDGE_RATIO))


def edges_disparity(normalised: Frames, valid: Mask) -> Mask:
    """Pixels whose right or lower neighbour differs by more than `EDGE_STEP`."""
    return _edges(normalised, valid, EDGE_STEP)


def _edges(values: np.ndarray, valid: Mask, step: float) -> Mask:
    edges = np.zeros(values.shape, bool)
    edges[:, :-1] |= (np.abs(np.diff(values, axis=1)) > step) & valid[:, :-1] & valid[:, 1:]
    edges[:, :, :-1] |= (np.abs(np.diff(values, axis=2)) > step) & valid[..., :-1] & valid[..., 1:]
    return edges


def _spread(mask: Mask) -> Mask:
    """Marked pixels and their eight neighbours."""
    wide = mask.copy()
    wide[:, 1:] |= mask[:, :-1]
    wide[:, :-1] |= mask[:, 1:]
    out = wide.copy()
    out[:, :, 1:] |= wide[:, :, :-1]
    out[:, :, :-1] |= wide[:, :, 1:]
    return out


@dataclass
class CodeUse:
    """Counts of each code."""

    counts: Int64[np.ndarray, " K"]
    frames: int = 0
    distinct: int = 0  # distinct codes per frame, summed over frames

    @classmethod
    def of(cls, codes: int) -> CodeUse:
        """Zero counts for a codebook of `codes` codes."""
        return cls(np.zeros(codes, np.int64))

    def add(self, codes: UInt8[np.ndarray, "T h w"]) -> None:
        """Add the codes of some frames."""
        for frame in codes:
            counts = np.bincount(frame.ravel(), minlength=len(self.counts))
            self.counts += counts
            self.distinct += int((counts > 0).sum())
        self.frames += len(codes)

    def report(self) -> dict:
        """Codes used, total codes, perplexity (2 to the entropy in bits), distinct per frame."""
        share = self.counts[self.counts > 0] / max(self.counts.sum(), 1)
        return {
            "used": len(share),
            "of": len(self.counts),
            "perplexity": float(np.exp(-(share * np.log(share)).sum())) if len(share) else 0.0,
            "distinct_per_frame": self.distinct / max(self.frames, 1),
        }


@dataclass
class Flips:
    """How often a cell's code changes from one frame to the next although its depth does not.

    `static`: no pixel of the cell changed by the threshold. `far`: nor did any in the two rings of
    cells around it, so that all motion is outside the code's receptive field.
    """

    threshold: float
    cells: dict[str, int] = field(default_factory=lambda: {"static": 0, "far": 0})
    flips: dict[str, int] = field(default_factory=lambda: {"static": 0, "far": 0})

    def add(self, values: Frames, valid: Mask, codes: UInt8[np.ndarray, "T h w"]) -> None:
        """Add consecutive frames. A pixel that becomes valid or invalid counts as a change."""
        change = np.abs(np.diff(values, axis=0))
        change[valid[1:] != valid[:-1]] = np.inf
        change[~valid[1:] & ~valid[:-1]] = 0
        height, width = codes.shape[1:]
        cell = (values.shape[1] // height, values.shape[2] // width)
        blocks = change.reshape(len(change), height, cell[0], width, cell[1])
        # A thousandth less, so that float32 rounding cannot hide a change of exactly the threshold.
        moved = blocks.max(axis=(2, 4)) >= 0.999 * self.threshold
        flipped = codes[1:] != codes[:-1]
        for name, still in (("static", ~moved), ("far", ~_spread(_spread(moved)))):
            self.cells[name] += int(still.sum())
            self.flips[name] += int((flipped & still).sum())

    def report(self) -> dict[str, float]:
        """Shares of flipped cells, and the number of cells."""
        shares = {name: self.flips[name] / max(self.cells[name], 1) for name in self.cells}
        return {**shares, "static_cells": self.cells["static"], "far_cells": self.cells["far"]}
