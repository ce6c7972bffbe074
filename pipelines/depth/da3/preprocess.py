"""Frames to the input of Depth Anything 3: two resizes by OpenCV on uint8, so that pixels are
rounded twice, as the network's authors do; then ImageNet's mean and standard deviation.

The longer side becomes the input size, then each side the nearest multiple of 14, a tie upwards.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from depthtok.errors import MissingPackage
from pipelines.depth.vida.config import PATCH
from pipelines.depth.vida.preprocess import MEAN, STD

Size = tuple[int, int]  # height and width, px


def opencv() -> ModuleType:
    """OpenCV. Raises `MissingPackage` where it is not installed."""
    try:
        import cv2
    except ImportError:
        raise MissingPackage(
            "Depth Anything 3 needs OpenCV, which resizes its input",
            remedy="pip install 'depthtok[da3]'",
        ) from None
    return cv2


def network_sizes(height: int, width: int, input_size: int) -> tuple[Size, Size]:
    """The size after the first resize, and that of the network's input."""
    scale = input_size / max(height, width)
    first = max(1, round(height * scale)), max(1, round(width * scale))
    rows, columns = (max(1, (side + PATCH // 2) // PATCH) for side in first)
    return first, (rows * PATCH, columns * PATCH)


def resized(frame: UInt8[np.ndarray, "H W 3"], input_size: int) -> UInt8[np.ndarray, "h w 3"]:
    """One frame at the size of the network's input."""
    cv2 = opencv()
    height, width = frame.shape[:2]
    first, last = network_sizes(height, width, input_size)
    longer = max(height, width)
    if input_size != longer:
        rule = cv2.INTER_CUBIC if input_size > longer else cv2.INTER_AREA
        frame = cv2.resize(frame, first[::-1], interpolation=rule)
    if first != last:
        grows = last[0] > first[0] or last[1] > first[1]
        rule = cv2.INTER_CUBIC if grows else cv2.INTER_AREA
        frame = cv2.resize(frame, last[::-1], interpolation=rule)
    return frame


def preprocess(frames: UInt8[np.ndarray, "n H W 3"], input_size: int) -> Float32[Tensor, "n 3 h w"]:
    """Frames as the network's input, on the host."""
    pixels = np.stack([resized(frame, input_size) for frame in frames]).astype(np.float32)
    pixels /= np.float32(255)
    pixels -= np.asarray(MEAN, np.float32)
    pixels /= np.asarray(STD, np.float32)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))


def input_focal(focal: tuple[float, float], frame: Size, net: Size) -> float:
    """The focal length in pixels of the network's input, from those of the frame (fx, fy)."""
    return (focal[0] * net[1] / frame[1] + focal[1] * net[0] / frame[0]) / 2
