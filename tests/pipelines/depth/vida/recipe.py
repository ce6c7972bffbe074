"""Deterministic weights and clips for the parity tests of depth networks (torch + numpy only).

Weights: for every key in sorted order a fresh CPU generator, seeded with
crc32("<seed>:<key>"), gives float32 uniforms r in [0, 1) (multiples of 2**-24);
u = 2r - 1 is exact and value = offset + amplitude * u is two correctly rounded
float32 operations, so the bits do not depend on threads, vector units or the
order in which keys are asked for.  `*.pe` buffers follow the sinusoid formula
in `position_table`.  Clips: integer arithmetic only, bit-exact everywhere.
"""

import math
import zlib

import numpy as np
import torch

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def position_table(length: int, width: int) -> torch.Tensor:
    """[1, length, width]: column 2i is sin(t*f_i), column 2i+1 is cos(t*f_i), with
    f_i = exp(-2i * ln(10000) / width); every step is done in float32."""
    freq = torch.exp(torch.arange(0, width, 2).float() * (-math.log(10000.0) / width))
    angle = torch.arange(length).float().unsqueeze(1) * freq
    return torch.stack((angle.sin(), angle.cos()), dim=-1).reshape(1, length, width)


def rule(key: str, shape: list[int]) -> tuple[float, float]:
    """(offset, amplitude) of a tensor; its values are uniform in offset +- amplitude."""
    if key.endswith("sky_output_conv2.2.bias"):  # level of the sky map: near its threshold 0.3
        return 0.1, 0.0
    if key.endswith("output_conv2.2.bias"):  # level of the depth map (GemDepth), its log (DA3)
        return 1.2, 0.0
    if key.endswith("cam_dec.fc_fov.0.bias"):  # keeps angles and quaternions away from zero
        return 1.2, 0.1
    if key.endswith(("pose_branch.fc2.bias", "cam_dec.fc_t.bias", "cam_dec.fc_qvec.bias")):
        return 0.5, 0.1
    if key.endswith(".gamma"):  # LayerScale: far from its tiny initial value
        return 0.5, 0.25
    if key.endswith(TOKENS):
        return 0.0, 0.5
    if len(shape) == 1:  # norm scales, then every bias
        return (1.0, 0.25) if key.endswith("weight") else (0.0, 0.1)
    fan_in = math.prod(shape[1:])
    if key.endswith(("resize_layers.0.weight", "resize_layers.1.weight")):
        fan_in = shape[0]  # transposed convs, stride == kernel
    gain = next((g for part, g in GAINS.items() if part in key), 1.0)
    return 0.0, gain * math.sqrt(3.0 / fan_in)  # std = gain / sqrt(fan_in)


TOKENS = (
    "pos_embed",
    "cls_token",
    "mask_token",
    "camera_token",
    "register_token",
    "empty_pose_tokens",
)
GAINS = {".resConfUnit": 0.7, ".proj_out.": 0.5, "output_conv2.0.": 0.5, "output_conv2.2.": 0.7}


def state_dict(schema: dict[str, list[int]], seed: int) -> dict[str, torch.Tensor]:
    """float32 CPU tensors for every key of `schema`; a function of (seed, key, shape) only."""
    out = {}
    for key in sorted(schema):
        shape = list(schema[key])
        if key.endswith(".pe"):
            out[key] = position_table(shape[1], shape[2])
            continue
        offset, amplitude = rule(key, shape)
        gen = torch.Generator().manual_seed(zlib.crc32(f"{seed}:{key}".encode()))
        u = torch.rand(shape, generator=gen, dtype=torch.float32).mul_(2.0).sub_(1.0)
        out[key] = u.mul_(amplitude).add_(offset)
    return out


def shrink(weights: dict[str, torch.Tensor], parts: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """A copy in which the tensors with these parts in their names are divided by 128 (exact), so
    that the epsilon of norm layers shows in the output."""
    return {k: v / 128 if any(part in k for part in parts) else v for k, v in weights.items()}


# Encoder LayerNorm, GroupNorm and temporal LayerNorm of Video-Depth-Anything.
VIDA_NORMS = ("patch_embed.proj.", "pos_embed", "cls_token", "head.projects.", ".proj_in.")
# Those of GemDepth and Depth Anything 3, too.
ALL_NORMS = (
    "patch_embed.proj.",
    "pos_embed",
    "cls_token",
    "camera_token",
    "register_token",
    "pretrained.norm.",
    "frame_blocks.0.attn.",
    "global_blocks.0.attn.qkv.",
    "_encoder.encoder.1.",
    "_encoder.norm_layer.",
    "head.projects.",
    ".proj_in.",
    ".ls1.gamma",
    ".ls2.gamma",
)


def _hash(i, j, salt: int) -> np.ndarray:
    """0..255 from lattice coordinates."""
    m = np.uint64(0xFFFFFFFF)
    v = (np.asarray(i, np.uint64) * np.uint64(73856093)) ^ (
        np.asarray(j, np.uint64) * np.uint64(19349663)
    )
    v = ((v ^ np.uint64(salt)) & m) * np.uint64(2654435761) & m
    v = ((v ^ (v >> np.uint64(15))) * np.uint64(2246822519)) & m
    return ((v ^ (v >> np.uint64(13))) & np.uint64(255)).astype(np.int64)


def _noise(y, x, cell: int, salt: int) -> np.ndarray:
    """Bilinear value noise 0..255; y, x are non-negative integers in 1/16 pixel."""
    cell *= 16
    i, fy, j, fx = y // cell, y % cell, x // cell, x % cell
    top = _hash(i, j, salt) * (cell - fx) + _hash(i, j + 1, salt) * fx
    low = _hash(i + 1, j, salt) * (cell - fx) + _hash(i + 1, j + 1, salt) * fx
    return (top * (cell - fy) + low * fy) // (cell * cell)


def _bounce(t: int, speed: int, phase: int, span: int) -> int:
    """Triangle wave 0..span."""
    span = max(span, 1)
    p = (t * speed + phase) % (2 * span)
    return p if p <= span else 2 * span - p


def clip(frames: int, height: int, width: int, seed: int) -> np.ndarray:
    """uint8 [frames, height, width, 3]: drifting noise, a light ramp, 3 textured discs and 2
    striped boxes.  Frame t depends on (t, height, width, seed) only, never on `frames`."""
    par = [zlib.crc32(f"{seed}:clip:{n}".encode()) for n in range(64)]
    y, x = np.arange(height, dtype=np.int64)[:, None], np.arange(width, dtype=np.int64)[None, :]
    unit = min(height, width)
    out = np.empty((frames, height, width, 3), np.uint8)
    for t in range(frames):
        oy, ox = t * (3 + par[0] % 9), t * (5 + par[1] % 17)  # drift in 1/16 px per frame
        img = np.stack(
            [
                (
                    3 * _noise(y * 16 + oy, x * 16 + ox, 13, par[2] + c)
                    + _noise(y * 16 + oy, x * 16 + ox, 4, par[3] + c)
                )
                // 4
                for c in range(3)
            ],
            -1,
        )
        img = (img * 2 + (255 * y // max(height - 1, 1) + 0 * x)[..., None]) // 3
        for n in range(5):
            p = par[8 + 8 * n : 16 + 8 * n]
            cy = _bounce(t, 1 + p[0] % 3, p[1] % 997, height - 1)
            cx = _bounce(t, 1 + p[2] % 4, p[3] % 997, width - 1)
            r = unit * (10 + p[4] % 12) // 64 + 1
            if n < 3:
                inside, tex = (
                    (y - cy) ** 2 + (x - cx) ** 2 <= r * r,
                    _noise((y - cy + height) * 16, (x - cx + width) * 16, 5, p[5]),
                )
            else:
                inside = (abs(y - cy) <= r) & (abs(x - cx) <= r // 2 + 1)
                tex = 255 * (((y - cy + height) + (2 + p[5] % 3) * (x - cx + width)) // 4 % 2)
            colour = np.array([p[6] % 256, p[7] % 256, p[6] // 256 % 256])
            img = np.where(
                inside[..., None], (colour + tex[..., None] * (1 + n % 3) // 3) // 2, img
            )
        out[t] = np.clip(img, 0, 255)
    return out


def normalise(video: np.ndarray) -> np.ndarray:
    """uint8 [T,H,W,3] -> float32 [T,3,H,W]: float32 division by 255, then (x - MEAN) / STD in
    float64, then a cast to float32.  No resize."""
    x = (video.astype(np.float32) / np.float32(255)).astype(np.float64)
    x = (x - np.array(MEAN)) / np.array(STD)
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)).astype(np.float32)
