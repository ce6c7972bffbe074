"""The DPT head (arXiv 2103.13413) with temporal modules between its stages.

It has three parts, so that nothing is computed more often than necessary:

    pyramid   depends on a single frame: once per frame, however many windows contain it
    mix       mixes the frames of a window: once per window
    decode    turns mixed features into depth: once per depth map that is used

Letters: N frames, B windows, T slots, F fused features, h and w patches.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.nn import functional

from pipelines.depth.vida.config import PATCH, ViDAConfig
from pipelines.depth.vida.temporal import TemporalModule


class Pyramid(NamedTuple):
    """The head's features of a frame, fine to coarse; the two fine levels are ready for fusion.

    The coarsest one may instead be the tokens [N, S, D] that it is made of, where these depend on
    the window first (GemDepth).
    """

    level1: Float[Tensor, "N F h1 w1"]  # 4h x 4w
    level2: Float[Tensor, "N F h2 w2"]  # 2h x 2w
    level3: Float[Tensor, "N c3 h w"]
    level4: Float[Tensor, "N ..."]  # [N, c4, h/2, w/2], rounded up

    def rows(self, index: Tensor) -> Pyramid:
        """A copy of some frames; memory stays channels-last, as in the encoder's output."""
        return Pyramid(*(level[index] for level in self))

    @classmethod
    def join(cls, parts: list[Pyramid]) -> Pyramid:
        """Concatenates the frames of several pyramids."""
        return cls(*(torch.cat(levels) for levels in zip(*parts, strict=True)))


class Head(nn.Module):
    """Encoder features to depth."""

    def __init__(self, config: ViDAConfig) -> None:
        super().__init__()
        c1, c2, c3, c4 = config.channels
        self.projects = nn.ModuleList(nn.Conv2d(config.dim, c, 1) for c in config.channels)
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(c1, c1, 4, 4),
                nn.ConvTranspose2d(c2, c2, 2, 2),
                nn.Identity(),
                nn.Conv2d(c4, c4, 3, 2, 1),
            ]
        )
        widths = (c3, c4, config.features, config.features)
        self.motion_modules = nn.ModuleList(TemporalModule(width) for width in widths)
        self.scratch = Scratch(config.features, config.channels)

    def pyramid(
        self, taps: list[Float[Tensor, "N S D"]], rows: int, *, tokens: bool = False
    ) -> Pyramid:
        """Four pyramid levels from the encoder's four taps; with `tokens` the last tap as it is,
        instead of the coarsest."""
        level1, level2, level3 = (self.level(index, taps[index], rows) for index in range(3))
        level4 = taps[3] if tokens else self.level(3, taps[3], rows)
        scratch = self.scratch
        level1 = scratch.refinenet1.resConfUnit1(scratch.layer1_rn(level1))
        level2 = scratch.refinenet2.resConfUnit1(scratch.layer2_rn(level2))
        return Pyramid(level1, level2, level3, level4)

    def level(self, index: int, tap: Float[Tensor, "N S D"], rows: int) -> Tensor:
        """A pyramid level, [N, c, its rows, its columns], from the tap of that index."""
        x_NDhw = rearrange(tap, "n (h w) d -> n d h w", h=rows)
        return self.resize_layers[index](self.projects[index](x_NDhw))

    def mix(
        self,
        level3: Float[Tensor, "B T c3 h w"],
        level4: Float[Tensor, "B T c4 h4 w4"],
        slots: list[int] | None = None,
    ) -> Float[Tensor, "B t F h2 w2"]:
        """The coarse levels, mixed over time and fused; only `slots` are returned.

        h2 x w2 is the size of level 2.
        """
        batch, scratch = len(level3), self.scratch
        level3 = scratch.layer3_rn(images(self.motion_modules[0](level3)))
        level4 = scratch.layer4_rn(images(self.motion_modules[1](level4)))
        path4 = scratch.refinenet4(level4, level3.shape[-2:])
        path4 = images(self.motion_modules[2](path4.unflatten(0, (batch, -1))))
        path4 = path4 + scratch.refinenet3.resConfUnit1(level3)
        height, width = level3.shape[-2:]
        path3 = scratch.refinenet3(path4, (2 * height, 2 * width))
        return self.motion_modules[3](path3.unflatten(0, (batch, -1)), slots)

    def decode(
        self,
        path3: Float[Tensor, "N F h2 w2"],
        level1: Float[Tensor, "N F h1 w1"],
        level2: Float[Tensor, "N F h2 w2"],
    ) -> Float[Tensor, "N H W"]:
        """Non-negative depth at the size of the network's input, float32."""
        scratch = self.scratch
        path3 = path3.contiguous(memory_format=torch.channels_last)
        path2 = scratch.refinenet2(path3 + level2, level1.shape[-2:])
        rows, columns = level1.shape[-2:]
        path1 = scratch.refinenet1(path2 + level1, (2 * rows, 2 * columns))
        fine = resize(scratch.output_conv1(path1), (PATCH * rows // 4, PATCH * columns // 4))
        return scratch.output_conv2(fine).squeeze(1)


class Scratch(nn.Module):
    """The convolutions of the head, with their official names."""

    def __init__(self, features: int, channels: tuple[int, int, int, int]) -> None:
        super().__init__()

        def level(width: int) -> tuple[nn.Conv2d, Fusion]:
            return nn.Conv2d(width, features, 3, padding=1, bias=False), Fusion(features)

        c1, c2, c3, c4 = channels
        self.layer1_rn, self.refinenet1 = level(c1)
        self.layer2_rn, self.refinenet2 = level(c2)
        self.layer3_rn, self.refinenet3 = level(c3)
        self.layer4_rn, self.refinenet4 = level(c4)
        self.output_conv1 = nn.Conv2d(features, features // 2, 3, padding=1)
        self.output_conv2: nn.Sequential = DepthOutput(features // 2)


class Fusion(nn.Module):
    """One step from coarse to fine. `resConfUnit1` processes the finer level before it is added.

    The 1x1 convolution and the resize commute (both are linear, and the weights of a bilinear
    sample sum to 1); upstream resizes first, here the convolution runs on a quarter of the pixels.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(features, features, 1)
        self.resConfUnit1 = ResidualUnit(features)
        self.resConfUnit2 = ResidualUnit(features)

    def forward(
        self, x_NFhw: Float[Tensor, "N F h w"], size: tuple[int, int]
    ) -> Float[Tensor, "N F H W"]:
        return resize(self.out_conv(self.resConfUnit2(x_NFhw)), size)


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions, each after a ReLU, and a residual."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x_NFhw: Float[Tensor, "N F h w"]) -> Float[Tensor, "N F h w"]:
        inner = functional.relu(self.conv1(functional.relu(x_NFhw)))
        return self.conv2(inner) + x_NFhw


class DepthOutput(nn.Sequential):
    """Features at the input's size to one non-negative value."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Conv2d(width, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 1, 1))

    @property
    def last(self) -> nn.Conv2d:
        layer = self[2]
        assert isinstance(layer, nn.Conv2d)
        return layer

    def forward(self, x_NFHW: Float[Tensor, "N F H W"]) -> Float[Tensor, "N 1 H W"]:
        """The last layer is a dot product per pixel, float32 in any precision: rounding depth to
        float16 would cause visible steps."""
        hidden = functional.relu(self[0](x_NFHW))
        if self.last.weight.dtype is not torch.float32:
            return functional.relu(channel_sum(hidden, self.last))
        return functional.relu(self.last(hidden))


def channel_sum(x_NCHW: Float[Tensor, "N C H W"], last: nn.Conv2d) -> Float32[Tensor, "N 1 H W"]:
    """A 1x1 convolution to one channel, of half-precision features: as a convolution it is the
    slowest layer of all. Its products are summed in float32 in one pass over the features, by a
    matrix product, or compiled along with what comes before."""
    assert last.bias is not None
    if torch.compiler.is_compiling():
        return (x_NCHW.float() * last.weight).sum(1, keepdim=True) + last.bias[:, None, None]
    rows = rearrange(x_NCHW, "n c h w -> (n h w) c")
    depth = torch.mm(rows, last.weight.view(-1, 1), out_dtype=torch.float32) + last.bias
    return depth.view(len(x_NCHW), 1, *x_NCHW.shape[-2:])


def images(x_BTChw: Float[Tensor, "B T C h w"]) -> Float[Tensor, "N C h w"]:
    """Windows as a batch of images, channels last in memory, which is faster for convolutions."""
    return x_BTChw.flatten(0, 1).contiguous(memory_format=torch.channels_last)


def resize(x_NCHW: Float[Tensor, "N C H W"], size: tuple[int, int]) -> Float[Tensor, "N C h w"]:
    """Bilinear resize with aligned corners, as everywhere in this network."""
    return functional.interpolate(x_NCHW, size=tuple(size), mode="bilinear", align_corners=True)
