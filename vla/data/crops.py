"""Codes of crops: the depth of a crop, re-encoded during training.

`DepthCrops` replaces a CodeStore. Loader threads crop the depth in the same way as the image and
return the input of the codebook's encoder; the training device then encodes a whole batch at once
(0.1 to 0.5 GFLOP per frame).
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from depthtok.data import DepthClip, EpisodeKey
from depthtok.errors import ConfigError
from depthtok.resized import transformed
from vla.data.augment import Box
from vla.data.pixels import DepthTargets
from vla.data.stores import Depth


@runtime_checkable
class ClipEncoder(Protocol):
    """The part of `vqvae.codec.Codec` used here."""

    def prepare(
        self, clip: DepthClip, bounds: tuple[float, float]
    ) -> Float32[np.ndarray, "T H W"]: ...

    def codes_of(self, images: Float[Tensor, "T H W"]) -> UInt8[Tensor, "T h w"]: ...


class DepthCrops(DepthTargets):
    """A DepthStore as a source of codes: `encoder` is the codec of the codebook `book`. Raises
    `ConfigError` for depth of another size than the codebook's."""

    def __init__(self, store: Depth, book: Any, encoder: ClipEncoder) -> None:
        if store.size != book.size:
            raise ConfigError(
                f"the depth is {store.size} px, the codebook takes {book.size}",
                remedy="annotate at the codebook's size (--size)",
            )
        super().__init__(store, book.fingerprint, book.normalisation, book.grid)
        self.size: tuple[int, int] = book.size  # px
        self._encoder = encoder

    def image(
        self, key: EpisodeKey, camera: str, step: int, box: Box
    ) -> Float32[np.ndarray, "H W"] | None:
        """The encoder's input for a crop of a frame; None if none of its pixels is valid, or the
        episode does not have this camera."""
        clip = self._clips.get((key, camera))
        if clip is None:
            return None
        frame = clip.read(step, step + 1)
        part = transformed(frame, box.transform(frame.values.shape[1:], self.size))
        if not part.valid.any():
            return None
        bounds = self._normalisation.range_of(clip.disparity_quantiles)
        return self._encoder.prepare(part.to_disparity(), bounds)[0]

    @torch.no_grad()
    def codes(self, images_BMP: Float[Tensor, "B M P"]) -> UInt8[Tensor, "B M K"]:
        """The codes of a batch of such images, in row-major order, on their device."""
        height, width = self.size
        images = rearrange(images_BMP, "B M (H W) -> (B M) H W", H=height, W=width)
        codes = self._encoder.codes_of(images)
        return rearrange(codes, "(B M) h w -> B M (h w)", B=len(images_BMP))
