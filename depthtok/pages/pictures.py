"""Pictures of a page: images as data URIs with their text alternative, small enough for a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from depthtok.pages.scale import ColourBar

QUALITY = 82  # of WebP


@dataclass(frozen=True)
class Picture:
    """An image and its caption, which is also its text alternative. `said` is the instruction of
    the frame, which is shown on it; an `exact` one (codes, a mask) loses nothing on the page."""

    pixels: UInt8[np.ndarray, "H W 3"] | UInt8[np.ndarray, "H W"]
    caption: str
    said: str = ""
    exact: bool = False

    @property
    def alternative(self) -> str:
        """The text for who does not see it."""
        return f"{self.caption}; instruction: {self.said}" if self.said else self.caption

    def data_uri(self, side: int | None = None) -> str:
        """The pixels in a data URI; of those that are not exact, the longer side is at most `side`
        px."""
        image = Image.fromarray(np.ascontiguousarray(self.pixels))
        if side is not None and not self.exact:
            image.thumbnail((side, side), Image.Resampling.LANCZOS)
        return data_uri(image, QUALITY, exact=self.exact)


@dataclass(frozen=True)
class FrameRow:
    """What is shown of one frame, side by side, and what its colours mean."""

    heading: str
    pictures: Sequence[Picture]
    bars: Sequence[ColourBar] = ()


def data_uri(image: Image.Image, quality: int, *, exact: bool) -> str:
    """An image as WebP in a data URI; lossless where it is to be `exact`."""
    file = io.BytesIO()
    image.save(file, "webp", quality=100 if exact else quality, lossless=exact, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
