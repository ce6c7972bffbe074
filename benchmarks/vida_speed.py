"""Video-Depth-Anything on a CPU: our clip algorithm against the plain one, same weights.

The plain one implements the reference algorithm directly: windows one after another, every frame of
a window encoded although the previous window has encoded some of them, attention with its
matrix of weights in memory, every slot decoded, channels first in memory, the resize before the 1x1
convolution. Both run alternately, so that load slows both; the figure is the ratio of the medians
of CPU time.

    python benchmarks/vida_speed.py --frames 24 50 --size 140
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

from depthtok.data import Camera
from pipelines.depth.vida.config import CONFIGS, PATCH, WINDOW, RunConfig
from pipelines.depth.vida.encoder import Attention
from pipelines.depth.vida.head import Fusion, resize
from pipelines.depth.vida.infer import estimate
from pipelines.depth.vida.network import VideoDepth
from pipelines.depth.vida.preprocess import network_size, preprocess
from pipelines.depth.vida.runner import Runner
from pipelines.depth.vida.temporal import HEADS, TemporalAttention
from pipelines.depth.windows.plan import STEP, window_frames


def random_network(name: str, seed: int = 4) -> VideoDepth:
    """Random weights with which every part matters: no zero projection, LayerScale of order 1."""
    torch.manual_seed(seed)
    network = VideoDepth(CONFIGS[name])
    with torch.no_grad():
        for key, value in network.named_parameters():
            if key.endswith("gamma"):
                value.uniform_(0.25, 0.75)
            elif "proj_out" in key:
                value.uniform_(-0.05, 0.05)
            elif key.endswith(("pos_embed", "cls_token")):
                value.uniform_(-0.5, 0.5)
        network.head.scratch.output_conv2[2].bias.fill_(1.2)
    return network.eval()


def softmax_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention with the weight matrix materialised in memory."""
    weights = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    return weights.softmax(dim=-1) @ v


def spatial(self: Attention, x: Tensor) -> Tensor:
    qkv = rearrange(self.qkv(x), "n s (three a d) -> three n a s d", three=3, a=self.heads)
    return self.proj(rearrange(softmax_attention(*qkv.unbind(0)), "n a s d -> n s (a d)"))


def temporal(self: TemporalAttention, x: Tensor, slots: None) -> Tensor:
    x = self.pos_encoder(x)
    q, k, v = (
        rearrange(layer(x), "p t (a c) -> p a t c", a=HEADS)
        for layer in (self.to_q, self.to_k, self.to_v)
    )
    return self.to_out[0](rearrange(softmax_attention(q, k, v), "p a t c -> p t (a c)"))


def fusion(self: Fusion, x: Tensor, size: tuple[int, int]) -> Tensor:
    return self.out_conv(resize(self.resConfUnit2(x), size))


def plain_network(network: VideoDepth) -> VideoDepth:
    """A copy with the plain versions of these three functions."""
    plain = copy.deepcopy(network)
    for module in plain.modules():
        for kind, forward in ((Attention, spatial), (TemporalAttention, temporal)):
            if isinstance(module, kind):
                module.forward = types.MethodType(forward, module)
        if isinstance(module, Fusion):
            module.forward = types.MethodType(fusion, module)
    return plain


@torch.inference_mode()
def plain_clip(network: VideoDepth, frames: np.ndarray, input_size: int) -> np.ndarray:
    """The reference algorithm, step by step, on the network's device; on a GPU under float16
    autocast, as upstream."""
    device = network.pretrained.pos_embed.device
    with torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
        return _plain_clip(network, frames, input_size, device)


def _plain_clip(
    network: VideoDepth, frames: np.ndarray, input_size: int, device: torch.device
) -> np.ndarray:
    count, height, width = frames.shape[:3]
    size = network_size(height, width, input_size)
    windows = []
    for index in range(-(-count // STEP)):
        window = torch.from_numpy(frames[list(window_frames(index, count))]).to(device)
        images = preprocess(window, size)
        taps = [tap.mT.contiguous().mT for tap in network.pretrained(images)]  # channels first
        pyramid = network.head.pyramid(taps, size[0] // PATCH)
        path3 = network.head.mix(pyramid.level3[None], pyramid.level4[None])[0]
        parts = [
            network.head.decode(
                path3[i : i + 4], pyramid.level1[i : i + 4], pyramid.level2[i : i + 4]
            )
            for i in range(0, WINDOW, 4)
        ]
        depth = torch.cat(parts)[:, None]
        windows.append(resize(depth, (height, width))[:, 0].cpu().numpy())
    return plain_stitch(windows)[:count]


def plain_stitch(windows: list[np.ndarray]) -> np.ndarray:
    out = list(windows[0])
    first, key = windows[0][0], windows[0][12]
    for window in windows[1:]:
        x, y = window[:2].ravel(), np.stack((first, key)).ravel()
        scale, shift = np.linalg.lstsq(np.stack((x, np.ones_like(x)), 1), y, rcond=None)[0]
        fitted = np.maximum(window * np.float32(scale) + np.float32(shift), 0)
        for i in range(8):
            out[i - 8] = out[i - 8] * np.float32(1 - i / 7) + fitted[2 + i] * np.float32(i / 7)
        out.extend(fitted[10:])
        key = fitted[12]
    return np.stack(out)


class Clip:
    """Frames in memory."""

    def __init__(self, frames: np.ndarray) -> None:
        self.frames = frames
        self.camera = Camera("front", *frames.shape[1:3])

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.frames[start:stop]


def moving_noise(count: int, side: int) -> np.ndarray:
    """A drifting image, uint8 [count, side, side, 3]."""
    rng = np.random.default_rng(1)
    wide = rng.integers(0, 256, (side // 8, (side + count) // 8 + 1, 3), dtype=np.uint8)
    wide = wide.repeat(8, 0).repeat(8, 1)
    return np.stack([wide[:side, t : t + side] for t in range(count)])


def measure(name: str, count: int, size: int, rounds: int) -> dict:
    """Runs both alternately, and compares their depth too."""
    network = random_network(name)
    plain = plain_network(network)
    frames = moving_noise(count, size // 8 * 8)
    runner = Runner(network, RunConfig(input_size=size), torch.device("cpu"))
    both = compared(
        lambda: plain_clip(plain, frames, size),
        lambda: estimate(runner, [Clip(frames)]),
        rounds,
    )
    return {
        "network": name,
        "frames": count,
        "input_size": size,
        **both,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", default="vits", choices=list(CONFIGS))
    parser.add_argument("--frames", type=int, nargs="+", default=[24, 50])
    parser.add_argument("--size", type=int, nargs="+", default=[140], help="input size, px")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="results as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = [
        measure(options.network, count, size, options.rounds)
        for size in options.size
        for count in options.frames
    ]
    say(results, as_json=options.json)


if __name__ == "__main__":
    main()
