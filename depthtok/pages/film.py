"""A film: what some views show at every step of an episode, under one slider.

The frames of a view are the tiles of one image, which the page moves below a window: no video, no
script from elsewhere, and every step can be looked at by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from depthtok.pages.pictures import data_uri
from depthtok.pages.scale import ColourBar

MOST_STEPS = 300  # of a longer episode every second (third, ...) step is shown
BUDGET = 900_000  # bytes of all tiles; base64 makes 4 of 3
BYTES_A_PIXEL = 0.14  # of WebP at the first of the qualities, about, for small pictures
QUALITIES = (72, 50, 30, 10)
USUAL_RATE = 10.0  # Hz, of a robot's steps, where it is not known
SHRUNK = (1, 2, 4)  # every pixel, every second, ...
SIDES = (48, 160)  # px, the smallest and the largest tile; a multiple of 16, WebP's blocks


@dataclass(frozen=True)
class FilmView:
    """One window: the frames of all shown steps. `exact` ones (codes) lose nothing."""

    name: str
    frames: UInt8[np.ndarray, "T h w 3"]
    exact: bool = False

    @property
    def columns(self) -> int:
        """Tiles side by side in the image of all."""
        return math.ceil(math.sqrt(len(self.frames)))

    @property
    def rows(self) -> int:
        """Tiles one below another."""
        return math.ceil(len(self.frames) / self.columns)

    def sheet(self) -> UInt8[np.ndarray, "H W 3"]:
        """All frames as tiles of one image, row by row."""
        count, height, width, _ = self.frames.shape
        tiles = np.zeros((self.rows * self.columns, height, width, 3), np.uint8)
        tiles[:count] = self.frames
        grid = tiles.reshape(self.rows, self.columns, height, width, 3).swapaxes(1, 2)
        return grid.reshape(self.rows * height, self.columns * width, 3)


@dataclass(frozen=True)
class Film:
    """Some views of an episode in step. `steps` are those that are shown, of `length`; `said` has
    the instruction of each; `cameras` the views and bars below one heading."""

    episode: str
    length: int
    steps: Sequence[int]
    said: Sequence[str]
    cameras: Mapping[str, tuple[Sequence[FilmView], Sequence[ColourBar]]]
    fps: float | None = None

    def __post_init__(self) -> None:
        assert len(self.said) == len(self.steps), self.episode
        for view in self.views:
            assert len(view.frames) == len(self.steps), f"{self.episode}, {view.name}"

    @property
    def views(self) -> list[FilmView]:
        """Those of all cameras."""
        return [view for views, _ in self.cameras.values() for view in views]

    @property
    def rate(self) -> float:
        """Shown steps a second, so that an episode plays as fast as it was recorded."""
        stride = self.steps[1] - self.steps[0] if len(self.steps) > 1 else 1
        return (self.fps or USUAL_RATE) / stride

    @property
    def most_views(self) -> int:
        """Of a camera."""
        return max(len(views) for views, _ in self.cameras.values())

    def instructions(self) -> list[tuple[int, str]]:
        """Instructions, each with the first of the shown steps that it is of."""
        changes = [n for n, text in enumerate(self.said) if not n or text != self.said[n - 1]]
        return [(number, self.said[number]) for number in changes]

    def sheets(self, budget: int = BUDGET) -> dict[str, list[str]]:
        """By camera, the image of each view as a data URI: together within the budget, at the best
        quality for that, and where none is low enough with fewer pixels."""
        for every, quality in product(SHRUNK, QUALITIES):
            sheets = {
                camera: [_encoded(view, every, quality) for view in views]
                for camera, (views, _) in self.cameras.items()
            }
            if sum(len(uri) for uris in sheets.values() for uri in uris) <= budget * 4 / 3:
                break
        return sheets

    def to_json(self) -> dict[str, object]:
        """What is shown, without pixels."""
        views = {name: [view.name for view in views] for name, (views, _) in self.cameras.items()}
        return {
            "episode": self.episode,
            "length": self.length,
            "steps": list(self.steps),
            "instructions": [list(change) for change in self.instructions()],
            "views": views,
        }


def _encoded(view: FilmView, every: int, quality: int) -> str:
    """The image of a view, of every so manyth pixel where it is not exact."""
    if not view.exact:
        view = FilmView(view.name, view.frames[:, ::every, ::every])
    return data_uri(Image.fromarray(view.sheet()), quality, exact=view.exact)


def shown_steps(length: int) -> range:
    """The steps of an episode that a film shows: all of one that is not too long."""
    return range(0, length, max(1, math.ceil(length / MOST_STEPS)))


def tile_size(
    steps: int, views: int, height: int = 1, width: int = 1, budget: int = BUDGET
) -> tuple[int, int]:
    """Height and width of a tile, px, of frames of this shape: as large as the budget allows for so
    many steps and views that are not exact, and never larger than the frames are."""
    side = math.sqrt(budget / (max(1, steps * views) * BYTES_A_PIXEL))
    low, high = SIDES
    side = min(max(side, low), high)
    if 1 < height * width <= side * side:
        return height, width
    ratio = math.sqrt(height / width)
    sides = (16 * max(1, int(side * share) // 16) for share in (ratio, 1 / ratio))
    tall, wide = sides
    return tall, wide
