"""Augmentation: pastes part of another frame in front, like an obstacle.

Training scenes are few and static, so their edges are always in the same places. A random convex
part of a second crop, about as large as a cell, is moved nearer and shown where it occludes the
first: the depth remains physically plausible, and edges occur in any position, direction and
height. Larger parts, and other augmentations of depth, helped less or did harm
(`docs/results.md`).

A batch is pasted at once: calls on arrays of its size leave Python to other threads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from depthtok.normalisation import HIGH

SIDES = 3, 6  # of the part, minimum and maximum
NEAREST, FARTHEST = 0.25, 1.5  # distance from its centre to each side, cells

Images = Float32[np.ndarray, "B c c"]
Masks = Bool[np.ndarray, "B c c"]


def paste(
    images: Images,
    valid: Masks,
    others: Images,
    others_valid: Masks,
    cell: int,
    draws: Sequence[np.random.Generator],
) -> tuple[Images, Masks]:
    """Crops of normalised disparity with a part of `others` in front of each, and their valid
    masks. Each crop has a generator of its own, so that it does not depend on the batch.

    `cell` is the side of a cell in px: the part is a few cells large.
    """
    parts = _convex(images.shape[1:], cell, draws)
    nearer = images - others
    nearer[~parts] = 0
    # At most near enough that the part occludes everything behind it.
    most, any_part = nearer.max(axis=(1, 2)), np.any(parts, axis=(1, 2)).tolist()
    shares = [draw.random() if part else 0.0 for draw, part in zip(draws, any_part, strict=True)]
    np.add(others, (most * np.array(shares, np.float32))[:, None, None], out=nearer)
    shown = nearer > images
    shown &= nearer <= HIGH
    shown &= parts
    shown &= others_valid
    return np.where(shown, nearer, images), valid | shown


def _convex(shape: tuple[int, ...], cell: int, draws: Sequence[np.random.Generator]) -> Masks:
    """Random convex masks: intersections of half-planes around a random point; may be empty."""
    centres = np.empty((len(draws), 2))
    turns = np.zeros((len(draws), SIDES[1]))
    distances = np.full(turns.shape, np.inf)  # inf: a side that the mask lacks
    for i, draw in enumerate(draws):
        centres[i] = draw.uniform(0, shape[0]), draw.uniform(0, shape[1])
        for side in range(draw.integers(SIDES[0], SIDES[1] + 1)):
            turns[i, side] = draw.uniform(0, 2 * np.pi)
            distances[i, side] = draw.uniform(NEAREST * cell, FARTHEST * cell)
    rows, columns = (np.arange(n) - centres[:, i, None] for i, n in enumerate(shape))
    down = np.cos(turns)[..., None] * rows[:, None]
    right = np.sin(turns)[..., None] * columns[:, None]
    # The pixels of a row that are inside of a half-plane are its first ones, or its last ones.
    falls = np.sin(turns) < 0
    right[falls] = right[falls][:, ::-1]
    inside = _count_below(right, down, distances)
    falls, width = falls[..., None], shape[1]
    first = np.where(falls, width - inside, 0).max(axis=1)[..., None].astype(np.int16)
    end = np.where(falls, width, inside).min(axis=1)[..., None].astype(np.int16)
    column = np.arange(width, dtype=np.int16)
    return (column >= first) & (column < end)


def _count_below(
    rising: Float64[np.ndarray, "B s w"],
    terms: Float64[np.ndarray, "B s h"],
    limits: Float64[np.ndarray, "B s"],
) -> Int64[np.ndarray, "B s h"]:
    """How many of a row's values, which rise, are below the limit once a term is added: searched by
    bisection with just this comparison, so that rounding is as if all values were compared."""
    width = rising.shape[-1]
    step = 1 << width.bit_length()
    table = np.full((*rising.shape[:2], step), np.inf)
    table[..., :width] = rising
    starts = np.arange(0, table.size, step).reshape(*limits.shape, 1)
    count = np.zeros(terms.shape, np.int64)
    while step := step >> 1:
        values = table.reshape(-1).take(starts + count + (step - 1))
        values += terms
        count += (values < limits[..., None]) * step
    return count
