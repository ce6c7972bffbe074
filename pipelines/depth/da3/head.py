"""The DPT head of Depth Anything 3: that of Video-Depth-Anything without its temporal modules, and
with the logarithm of depth at its end.

Letters: N images, S patches (h rows of w), D features of a tap, F fused features.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.nn import functional

from pipelines.depth.da3.config import DA3Config
from pipelines.depth.vida.config import PATCH
from pipelines.depth.vida.head import Scratch, resize

UV_WEIGHT, UV_BASE = 0.1, 100.0


class Output(nn.Sequential):
    """Features at the input's size to `maps` values of a pixel, of any sign."""

    def __init__(self, width: int, maps: int) -> None:
        super().__init__(nn.Conv2d(width, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, maps, 1))


class DA3Scratch(Scratch):
    """The convolutions of the head, with their official names."""

    def __init__(self, config: DA3Config) -> None:
        super().__init__(config.features, config.channels)
        del self.refinenet4.resConfUnit1
        width = config.features // 2
        del self.output_conv2
        self.output_conv2 = Output(width, 2 if config.views else 1)
        if not config.views:
            self.sky_output_conv2 = Output(width, 1)


class DA3Head(nn.Module):
    """The encoder's four taps to depth, and for the mono family a map of the sky."""

    whole = True  # float32 in any precision, as the authors run it: exp amplifies what is rounded

    def __init__(self, config: DA3Config) -> None:
        super().__init__()
        c1, c2, _, c4 = config.channels
        width = config.dim * (2 if config.views else 1)
        self.views = config.views
        if config.views:
            self.norm = nn.LayerNorm(width, eps=1e-5)
        self.projects = nn.ModuleList(nn.Conv2d(width, c, 1) for c in config.channels)
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(c1, c1, 4, 4),
                nn.ConvTranspose2d(c2, c2, 2, 2),
                nn.Identity(),
                nn.Conv2d(c4, c4, 3, 2, 1),
            ]
        )
        self.scratch = DA3Scratch(config)

    def forward(
        self, taps: list[Float[Tensor, "N S D"]], rows: int
    ) -> tuple[Float[Tensor, "N H W"], Float[Tensor, "N H W"]]:
        """Depth, above 0; and the mono family's sky map (sky is 0.3 and more), or the other
        family's confidence (above 1). At the size of the network's input."""
        columns = taps[0].shape[1] // rows
        size = PATCH * rows, PATCH * columns
        fine = resize(self.scratch.output_conv1(self._fused(taps, rows, size)), size)
        fine = self._placed(fine, size)
        if self.views:
            depth, confidence = self.scratch.output_conv2(fine).unbind(1)
            return depth.exp(), confidence.exp() + 1
        sky = functional.relu(self.scratch.sky_output_conv2(fine)[:, 0])
        return self.scratch.output_conv2(fine)[:, 0].exp(), sky

    def _fused(
        self, taps: list[Float[Tensor, "N S D"]], rows: int, size: tuple[int, int]
    ) -> Float[Tensor, "N F H W"]:
        """The four levels of the pyramid, fused from coarse to fine."""
        scratch, levels = self.scratch, []
        for tap, project, resized in zip(taps, self.projects, self.resize_layers, strict=True):
            tap = self.norm(tap) if self.views else tap
            level = project(rearrange(tap, "n (h w) d -> n d h w", h=rows))
            levels.append(resized(self._placed(level, size)))
        level1, level2, level3, level4 = levels
        level1, level2 = scratch.layer1_rn(level1), scratch.layer2_rn(level2)
        level3, level4 = scratch.layer3_rn(level3), scratch.layer4_rn(level4)
        path = scratch.refinenet4(level4, level3.shape[-2:])
        path = path + scratch.refinenet3.resConfUnit1(level3)
        path = scratch.refinenet3(path, level2.shape[-2:])
        path = path + scratch.refinenet2.resConfUnit1(level2)
        path = scratch.refinenet2(path, level1.shape[-2:])
        path = path + scratch.refinenet1.resConfUnit1(level1)
        height, width = level1.shape[-2:]
        return scratch.refinenet1(path, (2 * height, 2 * width))

    def _placed(
        self, x_NFhw: Float[Tensor, "N F h w"], size: tuple[int, int]
    ) -> Float[Tensor, "N F h w"]:
        """With an embedding of where each pixel is in the image, in the family of many views."""
        if not self.views:
            return x_NFhw
        height, width = x_NFhw.shape[-2:]
        places = uv_embedding(x_NFhw.shape[1], (height, width), size[1] / size[0], x_NFhw.device)
        return x_NFhw + UV_WEIGHT * places.to(x_NFhw.dtype)


def uv_embedding(
    channels: int, size: tuple[int, int], aspect: float, device: torch.device
) -> Float32[Tensor, "channels h w"]:
    """Sines and cosines of a pixel's place: the first half of the channels of x, then of y.

    `aspect` is width over height of the input; the image's diagonal spans -1 to 1.
    """
    diagonal = (aspect**2 + 1) ** 0.5
    spans = aspect / diagonal, 1 / diagonal  # of x and y
    quarter = channels // 4
    rates = torch.arange(quarter, dtype=torch.float64, device=device)
    rates = UV_BASE ** (-rates / quarter)

    def waves(span: float, count: int) -> Tensor:
        end = span * (count - 1) / count
        places = torch.linspace(-end, end, count, dtype=torch.float64, device=device)
        angles = rates[:, None] * places
        return torch.cat((angles.sin(), angles.cos())).float()  # [channels / 2, count]

    height, width = size
    x, y = waves(spans[0], width), waves(spans[1], height)
    return torch.cat((x[:, None, :].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)))
