"""GemDepth on a CPU: our clip algorithm against the plain one, same weights.

The plain one goes through the windows one after another, encodes every frame of each, computes the
global block for every token, keeps the scores of every attention in memory, and decodes every slot,
as `vida_speed.py` does for Video-Depth-Anything. Both run alternately, so that load slows both; the
figure is the ratio of the medians of CPU time.

    python benchmarks/gem_speed.py --frames 40 --size 140
"""

from __future__ import annotations

import argparse
import types
from dataclasses import replace

import numpy as np
import torch
from einops import rearrange
from plain_and_ours import compared, say
from torch import Tensor
from vida_speed import Clip, moving_noise, plain_network, plain_stitch, softmax_attention

from pipelines.depth.gem.blocks import PrunedAttention, PrunedBlock, TokenAttention
from pipelines.depth.gem.config import GemConfig
from pipelines.depth.gem.network import GemDepth
from pipelines.depth.vida.config import CONFIGS, PATCH, WINDOW, RunConfig
from pipelines.depth.vida.head import resize
from pipelines.depth.vida.infer import estimate
from pipelines.depth.vida.preprocess import network_size, preprocess
from pipelines.depth.vida.runner import Runner
from pipelines.depth.windows.plan import STEP, window_frames

NETWORKS = ("vits", "vitl", "tiny")


def random_network(vida: str, *, pose: bool, seed: int = 4) -> GemDepth:
    """Random weights with which every part matters, around an encoder of that size."""
    torch.manual_seed(seed)
    sizes = vars(CONFIGS[vida])
    network = GemDepth(replace(GemConfig(**sizes), pose=pose))
    with torch.no_grad():
        for key, value in network.named_parameters():
            if key.endswith("gamma"):
                value.uniform_(0.25, 0.75)
            elif "proj_out" in key:
                value.uniform_(-0.05, 0.05)
            elif key.endswith(("pos_embed", "_token", "_tokens")):
                value.uniform_(-0.5, 0.5)
            elif key.endswith("pose_branch.fc2.bias"):
                value.uniform_(0.4, 0.6)
        network.head.scratch.output_conv2[2].bias.fill_(1.2)
    return network.eval()


def mixed(self: TokenAttention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention with its scores in memory."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return self.proj(rearrange(softmax_attention(q, k, v), "n a s d -> n s (a d)"))


def whole_block(self: PrunedBlock, x: Tensor, turn: tuple, every: int) -> Tensor:
    """The global block for every token, of which the camera tokens are used."""
    attention = TokenAttention.forward(self.attn, self.norm1(x), turn)
    x = torch.addcmul(x, attention, self.ls1.gamma)
    x = torch.addcmul(x, self.mlp(self.norm2(x)), self.ls2.gamma)
    return x[:, ::every]


def plain(network: GemDepth) -> GemDepth:
    """A copy with the plain versions of these functions."""
    copied = plain_network(network)
    for module in copied.modules():
        if isinstance(module, TokenAttention):
            module._mixed = types.MethodType(mixed, module)
        if isinstance(module, PrunedAttention):
            module.qkv.__class__ = torch.nn.Linear
        if isinstance(module, PrunedBlock):
            module.forward = types.MethodType(whole_block, module)
    return copied


@torch.inference_mode()
def plain_clip(network: GemDepth, frames: np.ndarray, input_size: int) -> np.ndarray:
    """The reference algorithm, step by step."""
    count, height, width = frames.shape[:3]
    size = network_size(height, width, input_size)
    windows = []
    for index in range(-(-count // STEP)):
        images = preprocess(torch.from_numpy(frames[list(window_frames(index, count))]), size)
        taps = [tap.mT.contiguous().mT for tap in network.pretrained(images)]  # channels first
        pyramid = network.head.pyramid(taps, size[0] // PATCH, tokens=True)
        path3 = network.mix(pyramid.level3[None], pyramid.level4[None])[0]
        parts = [
            network.head.decode(
                path3[i : i + 4], pyramid.level1[i : i + 4], pyramid.level2[i : i + 4]
            )
            for i in range(0, WINDOW, 4)
        ]
        depth = torch.cat(parts)[:, None]
        windows.append(resize(depth, (height, width))[:, 0].numpy())
    return plain_stitch(windows)[:count]


def measure(name: str, count: int, size: int, rounds: int, *, pose: bool) -> dict:
    """Runs both alternately, and compares their depth too."""
    network = random_network(name, pose=pose)
    reference = plain(network)
    frames = moving_noise(count, size // 8 * 8)
    runner = Runner(network, RunConfig(input_size=size), torch.device("cpu"))
    both = compared(
        lambda: plain_clip(reference, frames, size),
        lambda: estimate(runner, [Clip(frames)]),
        rounds,
    )
    return {
        "network": f"GemDepth, {name}, pose {'on' if pose else 'off'}",
        "frames": count,
        "input_size": size,
        **both,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", default="vits", choices=NETWORKS, help="its encoder and head")
    parser.add_argument("--pose", default="on", choices=["on", "off"])
    parser.add_argument("--frames", type=int, nargs="+", default=[40])
    parser.add_argument("--size", type=int, nargs="+", default=[140], help="input size, px")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="results as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = [
        measure(options.network, count, size, options.rounds, pose=options.pose == "on")
        for size in options.size
        for count in options.frames
    ]
    say(results, as_json=options.json)


if __name__ == "__main__":
    main()
