"""Noise on pictures: LIBERO-Plus's fifty (arXiv 2510.13626; MIT), after ImageNet-C's corruptions.

    noisy(frame, 14, [seed, step])     # Gaussian blur, level 4

1-10 motion blur, 11-20 Gaussian blur, 21-30 zoom blur, 31-40 fog, 41-50 glass blur; ten levels each
with the published parameters. Written anew. Equal to the published code (within two grey levels,
given the same random numbers): Gaussian, zoom, fog, and glass at 224 px. Not equal: motion blur,
which is ImageMagick's there, and glass of another size (there the last rows of 256 stay sharp).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float64, UInt8

from pipelines.sim.variation import LEVELS

Picture = Float64[np.ndarray, "H W 3"]  # 0 to 1
_MOTION = (
    (5, 2),
    (8, 3),
    (10, 4),
    (12, 5),
    (15, 6),
    (18, 8),
    (20, 10),
    (25, 12),
    (30, 15),
    (35, 20),
)  # radius, sigma (px)
_ZOOM = (
    (1.11, 0.01),
    (1.16, 0.01),
    (1.21, 0.02),
    (1.26, 0.02),
    (1.31, 0.03),
    (1.36, 0.01),
    (1.41, 0.01),
    (1.46, 0.02),
    (1.51, 0.02),
    (1.56, 0.03),
)  # up to, step
_FOG = (
    (0.5, 3.0),
    (1.0, 2.8),
    (1.5, 2.5),
    (2.0, 2.2),
    (2.5, 2.0),
    (3.0, 1.8),
    (3.5, 1.6),
    (4.0, 1.5),
    (4.5, 1.4),
    (5.0, 1.3),
)  # weight, decay of detail
_GLASS = (
    (0.5, 1, 3),
    (0.7, 1, 3),
    (0.9, 2, 3),
    (1.0, 2, 2),
    (1.1, 3, 2),
    (1.3, 3, 2),
    (1.5, 4, 2),
    (1.8, 4, 2),
    (2.2, 5, 1),
    (2.5, 5, 1),
)  # sigma, reach, rounds
_ANGLE = 45.0  # degrees, of motion, to either side
_TRUNCATE = 4.0  # sigmas, of a Gaussian


def noisy(
    frame: UInt8[np.ndarray, "H W 3"], number: int, seed: Sequence[int]
) -> UInt8[np.ndarray, "H W 3"]:
    """A square frame with noise `number`; equal seeds give equal noise."""
    kind, level = divmod(number - 1, LEVELS)
    random = np.random.RandomState(list(seed))
    noised = np.clip(_KINDS[kind](frame / 255.0, level, random), 0, 1)
    return (noised * 255).astype(np.uint8)


def _motion(picture: Picture, level: int, random: np.random.RandomState) -> Picture:
    """Half a Gaussian along a line in a random direction; edges go on."""
    radius, sigma = _MOTION[level]
    angle = np.radians(random.uniform(-_ANGLE, _ANGLE))
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    rows, columns = np.indices(picture.shape[:2])
    blurred = np.zeros_like(picture)
    for step, weight in zip(steps, weights / weights.sum(), strict=True):
        down, right = (int(np.rint(step * part)) for part in (np.sin(angle), np.cos(angle)))
        row = np.clip(rows + down, 0, len(picture) - 1)
        blurred += weight * picture[row, np.clip(columns + right, 0, picture.shape[1] - 1)]
    return blurred


def _gaussian(picture: Picture, sigma: float) -> Picture:
    """Edges go on; cut off at four sigmas."""
    radius = int(_TRUNCATE * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        width = picture.shape[axis]
        wider = np.pad(
            picture, [(radius, radius) if a == axis else (0, 0) for a in range(3)], "edge"
        )
        parts = (np.take(wider, range(k, k + width), axis) for k in range(2 * radius + 1))
        picture = sum(weight * part for weight, part in zip(weights, parts, strict=True))
    return picture


def _gauss(picture: Picture, level: int, random: np.random.RandomState) -> Picture:
    return _gaussian(picture, level + 1)


def _zoom(picture: Picture, level: int, random: np.random.RandomState) -> Picture:
    """The mean of the picture and of it at all zooms (1 twice)."""
    factors = np.arange(1, *_ZOOM[level])
    return (picture + sum(_zoomed(picture, factor) for factor in factors)) / (len(factors) + 1)


def _zoomed(picture: Picture, factor: float) -> Picture:
    """The middle of a square picture, enlarged to its size: corners on corners, bilinear."""
    side = len(picture)
    part = int(np.ceil(side / factor))
    top = (side - part) // 2
    large = round(part * factor)
    trim = (large - side) // 2
    places = np.arange(trim, trim + side) * ((part - 1) / (large - 1))
    low = np.minimum(places.astype(int), part - 2)
    share = places - low
    middle = picture[top : top + part, top : top + part]
    rows = middle[low] * (1 - share)[:, None, None] + middle[low + 1] * share[:, None, None]
    return rows[:, low] * (1 - share)[None, :, None] + rows[:, low + 1] * share[None, :, None]


def _fog(picture: Picture, level: int, random: np.random.RandomState) -> Picture:
    weight, decay = _FOG[level]
    brightest, side = picture.max(), len(picture)
    clouds = _plasma(1 << (side - 1).bit_length() if side > 256 else 256, decay, random)
    return (picture + weight * clouds[:side, :side, None]) * brightest / (brightest + weight)


def _plasma(size: int, decay: float, random: np.random.RandomState) -> Float64[np.ndarray, "n n"]:
    """A fractal of diamonds and squares, 0 to 1; it repeats at its edges. `size` is a power of
    two, `decay` how much less finer detail varies."""
    clouds = np.zeros((size, size))
    step, range_ = size, 100.0
    while step >= 2:

        def between(
            total: Float64[np.ndarray, "h w"], range_: float = range_
        ) -> Float64[np.ndarray, "h w"]:
            return total / 4 + range_ * random.uniform(-range_, range_, total.shape)

        half = step // 2
        corners = clouds[::step, ::step]
        square = corners + np.roll(corners, -1, 0)
        square += np.roll(square, -1, 1)
        clouds[half::step, half::step] = between(square)
        centres = clouds[half::step, half::step]
        above = centres + np.roll(centres, 1, 0)
        beside = corners + np.roll(corners, -1, 1)
        clouds[::step, half::step] = between(above + beside)
        left = centres + np.roll(centres, 1, 1)
        below = corners + np.roll(corners, -1, 0)
        clouds[half::step, ::step] = between(left + below)
        step, range_ = half, range_ / decay
    clouds -= clouds.min()
    return clouds / clouds.max()


def _glass(picture: Picture, level: int, random: np.random.RandomState) -> Picture:
    """Blurred, with pixels that take the place of neighbours, and blurred again."""
    sigma, reach, rounds = _GLASS[level]
    side, blurred = len(picture), (_gaussian(picture, sigma) * 255).astype(np.uint8)
    order = np.arange(side - reach, reach, -1)
    places = (order[:, None] * side + order[None, :]).ravel()
    sources = list(range(side * side))
    for _ in range(rounds):
        right, down = random.randint(-reach, reach, size=(len(places), 2)).T
        for target, source in zip(
            places.tolist(), (places + down * side + right).tolist(), strict=True
        ):
            sources[target] = sources[source]  # from one that may have changed already
    mixed = blurred.reshape(-1, 3)[sources].reshape(picture.shape)
    return _gaussian(mixed / 255.0, sigma)


_KINDS: tuple[Callable[[Picture, int, np.random.RandomState], Picture], ...] = (
    _motion,
    _gauss,
    _zoom,
    _fog,
    _glass,
)
