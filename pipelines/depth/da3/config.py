"""The networks of Depth Anything 3 that are used here. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipelines.depth.vida.config import ViDAConfig


@dataclass(frozen=True)
class DA3Config(ViDAConfig):
    """One network: a DINOv2 encoder and a DPT head, for single images.

    `views`: it is of the family for any number of views (small, base), of which one is given;
    otherwise of the mono family, which also tells the sky. `metric`: its depth times the focal
    length is metres, otherwise it is relative.
    """

    input_size: int = 504  # px, the longer side of the input
    views: bool = False


_SMALL, _BASE = (48, 96, 192, 384), (96, 192, 384, 768)
_MONO = DA3Config("da3-mono-large", 1024, 24, 16, (4, 11, 17, 23), 256, (256, 512, 1024, 1024))
CONFIGS: dict[str, DA3Config] = {
    config.name: config
    for config in (
        _MONO,
        replace(_MONO, name="da3-metric-large", metric=True),
        DA3Config("da3-small", 384, 12, 6, (5, 7, 9, 11), 64, _SMALL, views=True),
        DA3Config("da3-base", 768, 12, 12, (5, 7, 9, 11), 128, _BASE, views=True),
    )
}
"""Every published network of one view by name."""

VITS = DA3Config("da3-mono-vits", 384, 12, 6, (2, 5, 8, 11), 64, _SMALL)
"""The mono network with a small encoder, as the reference outputs have it. Not published."""


def tiny(*, views: bool = False, metric: bool = False) -> DA3Config:
    """A network of a few thousand weights at which every part matters, for tests."""
    taps = (4, 5, 6, 7) if views else (1, 3, 5, 7)
    config = DA3Config("da3-tiny", 64, 8, 1, taps, 8, (8, 16, 32, 32), 10, 112)
    return replace(config, views=views, metric=metric)
