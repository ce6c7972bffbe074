"""The best plane of disparity over an image: a baseline that has not looked at it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float


class PlaneFit:
    """The least-squares plane of a clip's true disparity over the image, block by block."""

    def __init__(self) -> None:
        self._matrix, self._target, self._size = np.zeros((3, 3)), np.zeros(3), (0, 0)

    def add(self, y: Float[np.ndarray, "n H W"], valid: Bool[np.ndarray, "n H W"]) -> None:
        """Counts frames; `y` is 0 where it is not valid."""
        self._size = y.shape[1:]
        counts, sums = valid.sum(0).ravel(), y.sum(0).ravel()
        terms = self._terms()
        self._matrix += (terms * counts) @ terms.T
        self._target += terms @ sums

    def _terms(self) -> Float[np.ndarray, "3 N"]:
        height, width = self._size
        v, u = (axis.ravel() for axis in np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j])
        return np.stack([np.ones_like(u), u, v])

    def solved(self) -> Float[np.ndarray, "H W"]:
        """The plane, of the size of the image."""
        weights = np.linalg.lstsq(self._matrix, self._target, rcond=None)[0]
        return (weights @ self._terms()).reshape(self._size)
