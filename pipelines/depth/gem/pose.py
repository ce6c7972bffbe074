"""From camera tokens to the poses of a window's frames, and what is embedded of them.

Poses are few numbers, and quotients of them: all of this is float32 in any precision.

Letters: B windows, T frames, C features (twice the encoder's), D features.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from pipelines.depth.gem.blocks import TokenBlock

ITERATIONS = 4
TRUNK, TRUNK_HEADS = 4, 16  # blocks, and heads of their attention
POSE = 9  # translation, quaternion (x, y, z, w), two angles of view, which depth does not use
TINY = 1e-8
WIDTHS = (128, 256, 512)  # of the hidden layers of an embedding


class Pose(NamedTuple):
    """Where the cameras of a window are, relative to that of its first frame; and the mean length
    of the translations, by which they are divided."""

    quaternion: Float[Tensor, "B T 4"]
    translation: Float[Tensor, "B T 3"]
    scale: Float[Tensor, "B 1 1"]

    @classmethod
    def none(cls, windows: int, frames: int, device: torch.device) -> Pose:
        """Every frame is taken from one place."""
        quaternion = functional.pad(torch.ones(1, device=device), (3, 0))  # no copy from the host
        translation = torch.zeros(windows, frames, 3, device=device)
        scale = torch.full((windows, 1, 1), TINY, device=device)
        return cls(quaternion.expand(windows, frames, 4), translation, scale)

    @classmethod
    def relative(cls, poses: Float[Tensor, "B T 9"]) -> Pose:
        """Of estimated poses. Quaternions stay as long as they are estimated to be."""
        translation, quaternion = poses[..., :3], poses[..., 3:7]
        first = quaternion[:, :1]
        back = conjugate(first) / first.square().sum(-1, keepdim=True)
        moved = turned(functional.normalize(back, dim=-1), translation - translation[:, :1])
        lengths = moved.norm(dim=-1, keepdim=True)
        moving = (lengths > 0).sum(1, keepdim=True)  # the first frame never is
        scale = (lengths.sum(1, keepdim=True) / (moving + TINY)).clamp_min(TINY)
        return cls(product(back, quaternion), moved / scale, scale)


def conjugate(q: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """The quaternion (x, y, z, w) that turns back."""
    return torch.cat((-q[..., :3], q[..., 3:]), dim=-1)


def product(p: Float[Tensor, "B t 4"], q: Float[Tensor, "B T 4"]) -> Float[Tensor, "B T 4"]:
    """Hamilton's product of quaternions (x, y, z, w)."""
    (a, s), (b, r) = ((x[..., :3], x[..., 3:]) for x in (p, q))
    a = a.expand_as(b)
    vector = s * b + r * a + torch.linalg.cross(a, b)
    return torch.cat((vector, s * r - (a * b).sum(-1, keepdim=True)), dim=-1)


def turned(q: Float[Tensor, "B t 4"], v: Float[Tensor, "B T 3"]) -> Float[Tensor, "B T 3"]:
    """Vectors, turned by a quaternion of length 1."""
    axis, w = q[..., :3].expand_as(v), q[..., 3:]
    twice = 2 * torch.linalg.cross(axis, v)
    return v + w * twice + torch.linalg.cross(axis, twice)


class CameraHead(nn.Module):
    """Refines an estimate of all poses of a window, four times, from the camera tokens."""

    whole = True  # float32 in any precision

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.token_norm = nn.LayerNorm(dim, eps=1e-5)
        self.empty_pose_tokens = nn.Parameter(torch.zeros(1, 1, POSE))
        self.embed_pose = nn.Linear(POSE, dim)
        self.poseLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 3 * dim))
        self.trunk = nn.ModuleList(TokenBlock(dim, TRUNK_HEADS, eps=1e-5) for _ in range(TRUNK))
        self.trunk_norm = nn.LayerNorm(dim, eps=1e-5)
        self.pose_branch = PoseBranch(dim)

    def forward(self, cameras: Float[Tensor, "B T C"]) -> list[Float[Tensor, "B T 9"]]:
        """The estimates, the last one best, before what makes the angles of view positive."""
        tokens = self.token_norm(cameras.float())
        estimates: list[Tensor] = []
        current = self.empty_pose_tokens.expand(*cameras.shape[:2], -1)
        for _ in range(ITERATIONS):
            modulation = self.poseLN_modulation(self.embed_pose(current))
            shift, scale, gate = modulation.chunk(3, dim=-1)
            plain = functional.layer_norm(tokens, tokens.shape[-1:], eps=1e-6)
            stream = tokens + gate * (plain * (1 + scale) + shift)
            for block in self.trunk:
                stream = block(stream)
            change = self.pose_branch(self.trunk_norm(stream))
            current = current + change if estimates else change
            estimates.append(current)
        return estimates


class PoseBranch(nn.Module):
    """Features to a change of the estimate."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, dim // 2)
        self.fc2 = nn.Linear(dim // 2, POSE)

    def forward(self, x_BTC: Float[Tensor, "B T C"]) -> Float[Tensor, "B T 9"]:
        return self.fc2(functional.gelu(self.fc1(x_BTC)))


class PoseEmbedding(nn.Module):
    """A few numbers to the width of the features: four layers, the last one normed."""

    whole = True

    def __init__(self, numbers: int, dim: int) -> None:
        super().__init__()
        first, *widths = WIDTHS
        layers = nn.Sequential(nn.Linear(numbers, first))
        for inside, outside in zip(WIDTHS, (*widths, dim), strict=True):
            layers = nn.Sequential(layers, nn.Linear(inside, outside))
        self.encoder = layers  # each layer is inside the next one's container, as upstream names it
        self.norm_layer = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, x: Float[Tensor, "B t n"]) -> Float[Tensor, "B t D"]:
        layers = [m for m in self.encoder.modules() if not isinstance(m, nn.Sequential)]
        for number, layer in enumerate(layers):
            x = layer(functional.gelu(x) if number else x)
        return self.norm_layer(x)
