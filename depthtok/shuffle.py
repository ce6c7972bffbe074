"""A random order of n things without a table of n entries.

A Feistel network turns numbers below 4^b into each other one to one; those that land outside 0..n-1
are sent through again until they land inside ("cycle walking"). Memory is constant, any position
can be asked for, and the same seed gives the same order on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64, Integer

ROUNDS = 6
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


class Permutation:
    """A bijection of 0..n-1, drawn by `seed` (a number, or several)."""

    def __init__(self, n: int, seed: int | Sequence[int]) -> None:
        if n < 1:
            raise ValueError(f"a permutation of {n} things")
        self.n = n
        self._half = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))  # bits
        self._mask = np.uint64((1 << int(self._half)) - 1)
        self._keys = np.random.SeedSequence(seed).generate_state(ROUNDS, np.uint64)

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, position: int) -> int:
        """What stands at one position. Raises `IndexError` outside 0..n-1."""
        if not 0 <= position < self.n:
            raise IndexError(f"position {position} of {self.n}")
        return int(self(np.array([position]))[0])

    def __call__(self, positions: Integer[np.ndarray, " m"]) -> Int64[np.ndarray, " m"]:
        """What stands at many positions, each in 0..n-1."""
        values = self._turn(positions.astype(np.uint64))
        while (outside := values >= self.n).any():
            values[outside] = self._turn(values[outside])
        return values.astype(np.int64)

    def _turn(self, values: np.ndarray) -> np.ndarray:
        left, right = values >> self._half, values & self._mask
        for key in self._keys:
            left, right = right, left ^ (_mixed(right ^ key) & self._mask)
        return left << self._half | right


def _mixed(x: np.ndarray) -> np.ndarray:
    """A 64-bit hash in which every input bit reaches every output bit."""
    for shift, factor in zip((30, 27), _MIX, strict=True):
        x = (x ^ (x >> np.uint64(shift))) * factor
    return x ^ (x >> np.uint64(31))
