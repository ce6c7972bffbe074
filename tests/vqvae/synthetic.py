"""Small synthetic depth: a floor, a wall, and boxes that move. No files."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from depthtok.data import QUANTILES, DepthClip, DepthKind
from vqvae.config import NetworkConfig, QuantizerConfig, TokeniserConfig, TrainingConfig

SIZE = 64


@dataclass(frozen=True)
class ArrayClip:
    """A depth sequence in memory."""

    key: str
    camera: str
    depth: DepthClip

    @property
    def frames(self) -> int:
        return len(self.depth)

    @property
    def disparity_quantiles(self) -> tuple[float, ...]:
        return self.depth.to_disparity().quantiles

    def read(self, start: int, stop: int) -> DepthClip:
        part = slice(start, stop)
        return replace(self.depth, values=self.depth.values[part], valid=self.depth.valid[part])


def scene(seed: int, frames: int = 12, size: int = SIZE) -> np.ndarray:
    """Metres, float32 [frames size size]: multiples of 1/1024, about 0.5 to 3."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:size, 0:size] / size
    tilt, far = rng.uniform(-0.4, 0.4), rng.uniform(2.0, 3.0)
    back = np.minimum(far, 1.0 / (0.3 + 1.2 * rows)) + tilt * (columns - 0.5)
    clip = np.repeat(back[None], frames, axis=0)
    for _ in range(rng.integers(2, 6)):
        height, width = rng.integers(size // 8, size // 3, 2)
        top, left = rng.integers(0, size - size // 3, 2)
        step, near = rng.integers(-2, 3), rng.uniform(0.5, 1.2)
        for t in range(frames):
            x = int(np.clip(left + step * t, 0, size - width))
            patch = clip[t, top : top + height, x : x + width]
            np.minimum(patch, near, out=patch)
    return (np.round(clip * 1024) / 1024).astype(np.float32)


def array_clip(
    values: np.ndarray, key: str = "e0", camera: str = "front", kind: DepthKind = DepthKind.METRES
) -> ArrayClip:
    depth = DepthClip.of(values, kind)
    quantiles = np.quantile(depth.values[depth.valid], QUANTILES) if depth.valid.any() else ()
    return ArrayClip(key, camera, replace(depth, quantiles=tuple(float(q) for q in quantiles)))


def scenes(number: int, frames: int = 12, size: int = SIZE) -> list[ArrayClip]:
    return [array_clip(scene(i, frames, size), f"episode-{i}") for i in range(number)]


def tiny(steps: int = 6, **quantizer) -> TokeniserConfig:
    """64 px to 8x8 codes of 32, in milliseconds a step."""
    network = NetworkConfig(
        size=SIZE, grid=8, dim=16, width=16, decoder_width=16, encoder_blocks=0, decoder_blocks=1
    )
    quantizer_config = QuantizerConfig(**{"codes": 32, "warmup": 2, **quantizer})
    training = TrainingConfig(steps=steps, batch=8, crop=32, lr_warmup=2, held_out=0.3, lr=3e-3)
    return TokeniserConfig(network, quantizer_config, training)
