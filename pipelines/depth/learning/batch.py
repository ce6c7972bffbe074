"""The windows of a training step: frames as a network takes them, and their true depth.

They depend only on the seed and the step number, so that a stopped and resumed run sees the same.

Letters: B windows, T frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from depthtok.data import FrameClip
from depthtok.disk.bounds import together
from depthtok.errors import SourceError
from pipelines.depth.learning.finetune_config import FinetuneConfig
from pipelines.depth.learning.learner import Learner

PIXEL = 48  # bytes that a pixel takes while it is coloured and resized


@dataclass(frozen=True)
class Windows:
    """Some windows; `size` is that of their frames (height and width, px), `factors` what makes
    metres of a network's output, 1 for one that gives its kind by itself."""

    inputs: Float[Tensor, "B T ..."]
    depth: Float[Tensor, "B T h w"]  # m, 0 where unknown
    factors: Float[Tensor, "B 1 1 1"]
    size: tuple[int, int]

    def to(self, device: torch.device) -> Windows:
        """The same on a device."""
        inputs, depth = self.inputs.to(device), self.depth.to(device)
        return Windows(inputs, depth, self.factors.to(device), self.size)


def training_batch(
    learner: Learner, clips: Sequence[FrameClip], config: FinetuneConfig, step: int
) -> Windows:
    """The windows of one step: consecutive frames of clips drawn in proportion to length, half of
    them mirrored (unless `mirror` is off), with a random gain and offset of the colours.

    Frames are resized as for inference, depth by nearest neighbour: an average over an edge would
    be a depth that occurs nowhere. Raises `SourceError` for windows of different shapes.
    """
    rng = np.random.default_rng((config.seed, step))
    lengths = np.array([len(clip) for clip in clips], np.float64)
    windows = [
        _window(learner, clips[index], config, rng)
        for index in rng.choice(len(clips), config.batch, p=lengths / lengths.sum())
    ]
    shapes = {(*window.inputs.shape[-2:], *window.depth.shape[-2:]) for window in windows}
    if len(shapes) > 1:
        sizes = sorted({tuple(window.inputs.shape[-2:]) for window in windows})
        raise SourceError(
            f"frames of different shapes do not fit into one batch: network inputs are {sizes}",
            remedy="train on cameras of the same shape (--camera), or give --batch 1",
        )
    inputs, depth, factors = (
        torch.cat([getattr(window, name) for window in windows])
        for name in ("inputs", "depth", "factors")
    )
    return Windows(inputs, depth, factors, windows[0].size)


def _window(
    learner: Learner, clip: FrameClip, config: FinetuneConfig, rng: np.random.Generator
) -> Windows:
    """One window. A clip shorter than that repeats its last frame."""
    length = config.frames
    start = int(rng.integers(max(1, len(clip) - length + 1)))
    stop = min(start + length, len(clip))
    mirrored = config.mirror and rng.random() < 0.5
    gain, offset = rng.uniform(0.8, 1.2, 3).astype(np.float32), np.float32(rng.uniform(-20, 20))
    parts: list[Tensor] = []
    step, size = start, (0, 0)
    while step < stop:  # the first frame tells the size; large ones are taken one by one
        count = together(size[0] * size[1] * PIXEL, length) if parts else 1
        frames = clip.read(step, min(step + count, stop))
        if parts and size != frames.shape[1:3]:
            raise SourceError(f"{clip.key}: the frames have different sizes")
        size, step = (frames.shape[1], frames.shape[2]), step + len(frames)
        frames = frames[:, :, ::-1] if mirrored else frames
        coloured = torch.from_numpy(np.clip(frames * gain + offset, 0, 255).astype(np.uint8))
        parts.append(learner.inputs(coloured, config.input_size))
    metres = clip.true_depth(start, stop)
    depth = torch.from_numpy(np.ascontiguousarray(metres[:, :, ::-1] if mirrored else metres))
    inputs = torch.cat(parts)
    net = (inputs.shape[-2], inputs.shape[-1])
    target = functional.interpolate(
        depth[None], size=size if learner.at_frame_size else net, mode="nearest-exact"
    )
    factor = learner.metres_factor(clip, size, net)
    return Windows(
        _lengthened(inputs, length)[None],
        _lengthened(target[0], length)[None],
        torch.full((1, 1, 1, 1), 1.0 if factor is None else factor),
        size,
    )


def _lengthened(frames: Float[Tensor, "n ..."], length: int) -> Float[Tensor, "T ..."]:
    """Frames, the last of them repeated up to a length."""
    return torch.cat([frames, frames[-1:].expand(length - len(frames), *frames.shape[1:])])
