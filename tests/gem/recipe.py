"""Deterministic weights for GemDepth parity tests: those of `tests.vida.recipe`, with rules for the
keys that are new here. Clips and their normalisation are the same."""

import math
import zlib

import torch

from tests.vida.recipe import clip, normalise, position_table

__all__ = ["clip", "normalise", "shrink", "state_dict"]

TOKENS = (
    "pos_embed",
    "cls_token",
    "mask_token",
    "camera_token",
    "register_token",
    "empty_pose_tokens",
)
GAINS = {".resConfUnit": 0.7, ".proj_out.": 0.5, "output_conv2.0.": 0.5, "output_conv2.2.": 0.7}
SMALL = (
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


def rule(key, shape):
    """(offset, amplitude) of a tensor; its values are uniform in offset +- amplitude."""
    if key.endswith("output_conv2.2.bias"):  # level of the depth map
        return 1.2, 0.0
    if key.endswith("pose_branch.fc2.bias"):  # keeps angles and quaternions away from zero
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


def state_dict(schema, seed):
    """float32 CPU tensors for every key of `schema`; a function of (seed, key, shape) only."""
    state = {}
    for key in sorted(schema):
        shape = list(schema[key])
        if key.endswith(".pe"):
            state[key] = position_table(shape[1], shape[2])
            continue
        offset, amplitude = rule(key, shape)
        generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}:{key}".encode()))
        u = torch.rand(shape, generator=generator, dtype=torch.float32).mul_(2.0).sub_(1.0)
        state[key] = u.mul_(amplitude).add_(offset)
    return state


def shrink(weights):
    """A copy in which some tensors are divided by 128 (exact), so that the epsilon of most norm
    layers shows in the output."""
    return {k: v / 128 if any(part in k for part in SMALL) else v for k, v in weights.items()}
