"""Rollouts as small videos: camera images next to ground-truth depth and its codes."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from depthtok.data import DepthKind
from depthtok.disk.files import write_atomic
from depthtok.disk.regular import reading, require_file
from depthtok.errors import CorruptPart
from depthtok.pages.colour import colourise
from depthtok.pages.pictures import Picture
from pipelines.sim.rollout import Rollout

SIDE = 160  # px of one panel
MILLISECONDS = 250  # per frame: five control steps at 20 Hz
QUALITY = 60  # WebP quality
RANGE = (0.5, 99.5)  # disparity percentiles spanned by the colours, as for the codes


@dataclass(frozen=True)
class Video(Picture):
    """A video in a report; `pixels` is one frame of it, for its size."""

    data: bytes = b""  # WebP

    @classmethod
    def read(cls, path: Path, caption: str, said: str = "") -> Video:
        """A video from a file; `said` is its instruction. Raises `CorruptPart`."""
        require_file(path)
        with reading(path):
            data = path.read_bytes()
        try:
            frame = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise CorruptPart(
                f"{path} is no video of a trial: {error}",
                remedy="delete that file, and run the same command again",
            ) from error
        return cls(frame, caption, said, data=data)

    def data_uri(self, side: int | None = None) -> str:
        """The file as it is: it is not made smaller."""
        return "data:image/webp;base64," + base64.b64encode(self.data).decode()


def save_film(path: Path, rollout: Rollout) -> None:
    """Writes a rollout as an animated WebP, atomically."""
    frames = [Image.fromarray(np.ascontiguousarray(frame)) for frame in panels(rollout)]
    buffer = io.BytesIO()
    settings = {"duration": MILLISECONDS, "loop": 0, "quality": QUALITY}
    frames[0].save(buffer, "webp", save_all=True, append_images=frames[1:], **settings)
    write_atomic(path, buffer.getvalue())


def panels(rollout: Rollout) -> UInt8[np.ndarray, "T H W 3"]:
    """Colour next to true depth (warm is near, one scale for the whole trial), and, if known, the
    codes of the true depth next to the policy's depth codes, which are blank at the end, when the
    policy is no longer queried."""
    disparity = 1 / np.stack(rollout.depth_m)
    low, high = np.percentile(disparity, RANGE)
    colours = colourise(disparity, DepthKind.DISPARITY, float(low), float(high))
    nothing = np.zeros((1, 1, 3), np.uint8)
    rows = [rollout.frames, colours, *([*row, nothing] for row in rollout.panels)]
    return np.stack(
        [np.concatenate([_fit(p) for p in step], 1) for step in zip(*rows, strict=True)]
    )


def _fit(picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
