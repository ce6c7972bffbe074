"""Depth Anything 3 on a CPU: our estimator against a plain implementation, same weights.

The plain one takes one image at a time, has attention with its matrix of weights in memory,
channels first in memory, linear layers as they are, and the resize before the 1x1 convolution, as
the published code has. Both run alternately, so that load slows both; the figure is the ratio of
the medians of CPU time.

    python benchmarks/da3_speed.py --network small --size 140 280
"""

from __future__ import annotations

import argparse
import copy
import types

import numpy as np
import torch
from einops import rearrange
from plain_and_ours import compared, say
from torch import Tensor
from vida_speed import Clip, fusion, moving_noise, softmax_attention, spatial

from pipelines.depth.da3.backbone import TurnedAttention
from pipelines.depth.da3.config import CONFIGS, VITS
from pipelines.depth.da3.estimator import DA3Network
from pipelines.depth.da3.network import DA3
from pipelines.depth.da3.preprocess import preprocess
from pipelines.depth.da3.rope import turned
from pipelines.depth.single_frames.estimator import FrameEstimator
from pipelines.depth.vida.config import PATCH, RunConfig
from pipelines.depth.vida.encoder import Attention
from pipelines.depth.vida.head import Fusion, resize

NETWORKS = {"mono-vits": VITS} | {name.removeprefix("da3-"): c for name, c in CONFIGS.items()}


def random_network(name: str, seed: int = 4) -> DA3:
    """Random weights with which every part matters: LayerScale of order 1."""
    torch.manual_seed(seed)
    network = DA3(NETWORKS[name])
    with torch.no_grad():
        for key, value in network.named_parameters():
            if key.endswith("gamma"):
                value.uniform_(0.25, 0.75)
            elif key.endswith(("pos_embed", "cls_token", "camera_token")):
                value.uniform_(-0.5, 0.5)
    return network.eval()


def turned_plain(self: TurnedAttention, x: Tensor) -> Tensor:
    qkv = rearrange(self.qkv(x), "n s (three a d) -> three n a s d", three=3, a=self.heads)
    q, k, v = qkv.unbind(0)
    q, k = turned(self.q_norm(q), self.turn), turned(self.k_norm(k), self.turn)
    return self.proj(rearrange(softmax_attention(q, k, v), "n a s d -> n s (a d)"))


def plain_network(network: DA3) -> DA3:
    """A copy with the plain versions of these functions."""
    plain = copy.deepcopy(network)
    for module in plain.modules():
        if isinstance(module, TurnedAttention):
            module.forward = types.MethodType(turned_plain, module)
        elif isinstance(module, Attention):
            module.forward = types.MethodType(spatial, module)
        elif isinstance(module, Fusion):
            module.forward = types.MethodType(fusion, module)
    return plain


@torch.inference_mode()
def plain_clip(network: DA3, frames: np.ndarray, input_size: int) -> np.ndarray:
    """One image after another."""
    depths = []
    for frame in frames:
        image = preprocess(frame[None], input_size)
        taps = network.backbone["pretrained"](image)
        taps = [tap.mT.contiguous().mT for tap in taps]  # channels first
        depth = network.head(taps, image.shape[-2] // PATCH)[0]
        depths.append(resize(depth[:, None], frame.shape[:2])[0, 0].numpy())
    return np.stack(depths)


def measure(name: str, count: int, size: int, rounds: int) -> dict:
    """Runs both alternately, and compares their depth too."""
    network = random_network(name)
    plain, frames = plain_network(network), moving_noise(count, size // 8 * 8)
    run = RunConfig(input_size=size)
    estimator = FrameEstimator(DA3Network(network, run, torch.device("cpu")))
    both = compared(
        lambda: plain_clip(plain, frames, size),
        lambda: estimator.estimate([Clip(frames)]),
        rounds,
        np.log,
    )
    return {
        "network": name,
        "frames": count,
        "input_size": size,
        **both,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", nargs="+", default=["small"], choices=list(NETWORKS))
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, nargs="+", default=[140, 280], help="input size, px")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="results as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = [
        measure(name, options.frames, size, options.rounds)
        for name in options.network
        for size in options.size
    ]
    say(results, as_json=options.json, difference="difference of logarithms")


if __name__ == "__main__":
    main()
