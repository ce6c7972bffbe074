"""Video-Depth-Anything (arXiv 2501.12375): the encoder processes frames, the head windows."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from pipelines.depth.origin import WeightsOrigin
from pipelines.depth.vida.config import PATCH, ViDAConfig
from pipelines.depth.vida.encoder import ImageEncoder
from pipelines.depth.vida.head import Head, Pyramid


class VideoDepth(nn.Module):
    """The network, with the parameter names of the official checkpoints.

    `forward` is the whole network, for training and comparison. The clip algorithm calls its parts:
    `encode` once per frame, `mix` once per window, `head.decode` once per depth map.
    """

    def __init__(self, config: ViDAConfig) -> None:
        super().__init__()
        self.config = config
        self.origin = WeightsOrigin()  # what the file of its weights says that they are
        self.pretrained = ImageEncoder(config)
        self.head = Head(config)

    def encode(self, images: Float[Tensor, "N 3 H W"]) -> Pyramid:
        """The features of frames, shared by all windows that contain them."""
        return self.head.pyramid(self.pretrained(images), images.shape[-2] // PATCH)

    def mix(
        self,
        level3: Float[Tensor, "B T c3 h w"],
        level4: Float[Tensor, "B T ..."],
        slots: list[int] | None = None,
    ) -> Float[Tensor, "B t F h2 w2"]:
        """The coarse features of windows, mixed over time; only `slots` are returned."""
        return self.head.mix(level3, level4, slots)

    def forward(self, windows: Float[Tensor, "B T 3 H W"]) -> Float[Tensor, "B T H W"]:
        """Normalised frames of B windows to disparity, or to metres for a metric network."""
        batch, frames = windows.shape[:2]
        pyramid = self.encode(windows.flatten(0, 1))
        coarse = (level.unflatten(0, (batch, frames)) for level in pyramid[2:])
        path3 = self.mix(*coarse).flatten(0, 1)
        return self.head.decode(path3, *pyramid[:2]).unflatten(0, (batch, frames))
