"""The depth expert's predictions, decoded to depth and shown next to the ground truth.

Codes are decoded by a function that the caller passes in; predicted latents are mapped to their
nearest code; pixel regression needs no decoding. The truth is what the true codes decode to, for
pixels the stored depth: errors, of cell means, compare runs of one target and codebook only.
"""

# B batch, M cameras with codes, K code positions of a camera, N outputs of the head for each

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float32, Int, UInt8
from torch import Tensor

from depthtok.disk.files import commit_file
from depthtok.disk.regular import require_file, require_given
from depthtok.disk.sealed import require_sound, seal
from depthtok.errors import CorruptPart
from vla.model.batch import Batch
from vla.model.depth_head import DepthHead

Decode = Callable[[UInt8[np.ndarray, "T h w"]], Float32[np.ndarray, "T H W"]]
FILE = "depth.npz"
_REMEDY = "delete that file: the report then shows no frames"
SHOWN = 4  # frames kept as images


@dataclass(frozen=True)
class DepthView:
    """Frames of the first camera, with target and prediction as normalised disparity."""

    image: UInt8[np.ndarray, "T H W 3"]
    truth: Float32[np.ndarray, "T h w"]
    predicted: Float32[np.ndarray, "T h w"]
    grid: int  # cells along one side

    @classmethod
    def of(
        cls, head: DepthHead, batch: Batch, predicted_BMKN: Tensor, decode: Decode | None, most: int
    ) -> DepthView | None:
        """The first frames that have a target, at most `most`; None if there are none, or if codes
        cannot be decoded."""
        rows = batch.depth_valid_BM[:, 0].nonzero()[:most, 0]
        pixels = head.config.target == "pixels"
        if not len(rows) or (decode is None and not pixels):
            return None
        grid = head.config.grid
        target = batch.depth_BMK[rows, 0].cpu().numpy().reshape(-1, grid, grid)
        outputs = predicted_BMKN[rows, :1]
        if pixels:
            guess = outputs[..., 0].float().cpu().numpy().reshape(-1, grid, grid)
            truth, predicted = target, guess
        elif decode is not None:
            codes = nearest(head, outputs).to(torch.uint8).cpu().numpy().reshape(-1, grid, grid)
            truth, predicted = decode(target), decode(codes)
        image = batch.images_BIHW3[rows, 0].cpu().numpy()
        return cls(image, truth.astype(np.float32), predicted.astype(np.float32), grid)

    def errors(self) -> Float32[np.ndarray, " T"]:
        """Mean absolute error of each frame's cells, as a share of the clip's range."""
        cells = [
            part.reshape(len(part), self.grid, part.shape[1] // self.grid, self.grid, -1).mean(
                axis=(2, 4)
            )
            for part in (self.truth, self.predicted)
        ]
        return np.abs(cells[0] - cells[1]).mean(axis=(1, 2))

    def save(self, run: Path) -> None:
        """Saves a few of the frames for the run's report."""
        frames = {name: getattr(self, name)[:SHOWN] for name in ("image", "truth", "predicted")}
        with commit_file(run / FILE) as temporary:
            with temporary.open("wb") as file:
                np.savez_compressed(file, **frames, grid=self.grid)
            seal(temporary)

    @classmethod
    def find(cls, run: Path) -> DepthView | None:
        """The view that `save` wrote, if any. Raises `CorruptPart` for one that was changed."""
        require_file(run / FILE)
        if not (run / FILE).is_file():
            return None
        require_sound(run / FILE, _REMEDY)
        try:
            with np.load(run / FILE, allow_pickle=False) as arrays:
                image, truth, predicted = arrays["image"], arrays["truth"], arrays["predicted"]
                grid = int(arrays["grid"])
        except (ValueError, KeyError, TypeError, OSError, BadZipFile, zlib.error) as error:
            require_given(run / FILE, error)
            raise CorruptPart(f"{run / FILE} is damaged: {error}", remedy=_REMEDY) from error
        shapes = image.shape, truth.shape, predicted.shape
        if [*map(len, shapes)] != [4, 3, 3] or len({shape[0] for shape in shapes}) > 1:
            raise CorruptPart(f"{run / FILE} holds no frames with depth", remedy=_REMEDY)
        return cls(image, truth, predicted, grid)

    @classmethod
    def is_sealed(cls, run: Path) -> bool:
        """Whether the view that `save` wrote has a digest: those of older versions have none."""
        return require_sound(run / FILE, _REMEDY)


def nearest(head: DepthHead, predicted_BMKN: Tensor) -> Int[Tensor, "B M K"]:
    """The code at every position: the most likely, or the one nearest to a predicted latent."""
    if head.config.target == "codes":
        return predicted_BMKN.argmax(dim=-1)
    return torch.cdist(predicted_BMKN.float(), head.codebook_KD.float()).argmin(dim=-1)
