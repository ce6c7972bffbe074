"""Frames to network input: size, bicubic resize, normalisation.

The reference resizes with OpenCV's INTER_CUBIC on float32 RGB in [0, 1] (a = -0.75, no
antialiasing, edges repeated). The same resize is implemented here as two small matrices, for rows
and columns, so that it runs wherever torch does, without OpenCV. Sampling positions are float64: in
float32 they are off by 1e-5 px, which is why other bicubic resizes differ.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, UInt8
from torch import Tensor

from depthtok.errors import SourceError
from pipelines.depth.vida.config import PATCH

MEAN = (0.485, 0.456, 0.406)  # ImageNet's RGB mean, in [0, 1]
STD = (0.229, 0.224, 0.225)
CUBIC = -0.75
WIDEST = 1.78  # aspect ratio beyond which the input gets smaller
WIDE_TARGET = 1.777


def network_size(height: int, width: int, input_size: int) -> tuple[int, int]:
    """Height and width in px that a frame is resized to: multiples of 14, similar aspect ratio.

    The shorter side becomes `input_size`, or less for very wide or tall frames. Raises
    `SourceError` for a shape so extreme that nothing is left.
    """
    ratio = max(height, width) / min(height, width)
    target = input_size
    if ratio > WIDEST:
        target = round(int(input_size * WIDE_TARGET / ratio) / PATCH) * PATCH
    if target < PATCH:
        raise SourceError(
            f"frames of {width} x {height} px are too elongated for an input size of {input_size}",
            remedy="crop the frames",
        )
    scale = max(target / height, target / width)
    return _side(scale * height, target), _side(scale * width, target)


def _side(length: float, least: int) -> int:
    nearest = int(np.round(length / PATCH)) * PATCH
    return nearest if nearest >= least else int(np.ceil(length / PATCH)) * PATCH


@lru_cache(maxsize=64)
def resize_matrix(
    source: int, target: int, device: torch.device
) -> Float32[Tensor, "target source"]:
    """The matrix of a bicubic resize along one side."""
    step = source / target
    position = (np.arange(target) + 0.5) * step - 0.5
    pixels = np.floor(position).astype(np.int64)
    matrix = np.zeros((target, source))
    for tap, weight in enumerate(_cubic(position - pixels)):
        columns = np.clip(pixels + tap - 1, 0, source - 1)
        np.add.at(matrix, (np.arange(target), columns), weight)
    return torch.from_numpy(matrix.astype(np.float32)).to(device)


def _cubic(x: Float64[np.ndarray, " n"]) -> list[Float64[np.ndarray, " n"]]:
    """Weights of the four pixels around a point `x` past the second one."""

    def inner(t: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        return ((CUBIC + 2) * t - (CUBIC + 3)) * t * t + 1

    first = ((CUBIC * (x + 1) - 5 * CUBIC) * (x + 1) + 8 * CUBIC) * (x + 1) - 4 * CUBIC
    return [first, inner(x), inner(1 - x), 1 - first - inner(x) - inner(1 - x)]


def preprocess(frames: UInt8[Tensor, "N H W 3"], size: tuple[int, int]) -> Float[Tensor, "N 3 h w"]:
    """Resized and normalised frames, on the same device."""
    pixels = frames.permute(0, 3, 1, 2).float().div_(255)
    source = tuple(pixels.shape[-2:])
    if size != source:
        rows = resize_matrix(source[0], size[0], frames.device)
        columns = resize_matrix(source[1], size[1], frames.device)
        pixels = rows @ (pixels @ columns.T)
    mean, std = normalisation(frames.device)
    return (pixels - mean) / std


@lru_cache(maxsize=8)
def normalisation(device: torch.device) -> tuple[Float[Tensor, "3 1 1"], Float[Tensor, "3 1 1"]]:
    """Mean and standard deviation on a device: kept, because each copy to a GPU would wait."""
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (MEAN, STD))
    return mean, std
