"""Depth Anything 3 (arXiv 2511.10647) for single images, with the official names of parameters."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from pipelines.depth.da3.backbone import PlainBackbone, ViewBackbone
from pipelines.depth.da3.config import DA3Config
from pipelines.depth.da3.head import DA3Head
from pipelines.depth.vida.config import PATCH


class DA3(nn.Module):
    """The part of a checkpoint that depth of one image takes."""

    def __init__(self, config: DA3Config) -> None:
        super().__init__()
        self.config = config
        family = ViewBackbone if config.views else PlainBackbone
        self.backbone = nn.ModuleDict({"pretrained": family(config)})
        self.head = DA3Head(config)

    def forward(
        self, x_N3HW: Float[Tensor, "N 3 H W"]
    ) -> tuple[Float[Tensor, "N H W"], Float[Tensor, "N H W"]]:
        """Normalised images to depth, and the sky map or the confidence (see `DA3Head`)."""
        taps = [tap.float() for tap in self.backbone["pretrained"](x_N3HW)]
        return self.head(taps, x_N3HW.shape[-2] // PATCH)
