"""Quantiles of depth clips of any length, in constant memory, the same however a clip is cut."""

from __future__ import annotations

import numpy as np

from depthtok.data import QUANTILES

NEGATIVE_ZERO = 0x8000  # its bits in float16


class QuantileCounter:
    """Counts 16-bit depth values; the quantiles are exact order statistics of what was counted.

    Values are non-negative float16, whose bit patterns sort like their values, or uint16.
    """

    def __init__(self, dtype: str) -> None:
        self._dtype = np.dtype(dtype)
        self._counts = np.zeros(1 << 16, np.int64)

    def add(self, stored: np.ndarray) -> None:
        """Counts values (valid ones only)."""
        self._counts += np.bincount(stored.ravel().view(np.uint16), minlength=1 << 16)

    def quantiles(self) -> tuple[float, ...]:
        """The values at QUANTILES (nearest order statistic), in stored units; () if none."""
        if self._dtype.kind == "f":  # -0, as a ReLU may give, is 0; its bits are above infinity's
            self._counts[0] += self._counts[NEGATIVE_ZERO]
            self._counts[NEGATIVE_ZERO] = 0
        total = int(self._counts.sum())
        if total == 0:
            return ()
        below = np.cumsum(self._counts)
        ranks = [round(q * (total - 1)) for q in QUANTILES]
        patterns = np.searchsorted(below, ranks, side="right").astype(np.uint16)
        return tuple(patterns.view(self._dtype).astype(np.float64).tolist())
