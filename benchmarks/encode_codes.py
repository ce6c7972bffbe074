"""Encoding frames on one CPU thread: our codec against loops over `vector-quantize-pytorch`.

    python benchmarks/encode_codes.py [--codebook DIR] [--frames 64] [--rounds 15]

All take disparity frames in memory, use the same weights, normalise, encode and search, and must
give the same codes. The library is used as in its README: the encoder's output goes through the
`VectorQuantize` module in eval mode, one frame at a time, or eight. Rounds are interleaved, and
ratios compare the fastest rounds in CPU time, because other load can only add to it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from vector_quantize_pytorch import VectorQuantize

from depthtok.data import QUANTILES, DepthClip, DepthKind
from vqvae.codec import Codec
from vqvae.config import (
    NetworkConfig,
    QuantizerConfig,
    TokeniserConfig,
    TrainingConfig,
    TrainOptions,
)
from vqvae.data.clips import ClipSource
from vqvae.training.train import train

BOUNDS = (0.3, 2.0)


def frames(number: int) -> np.ndarray:
    """Disparity of a tilted floor and a moving box, float32 [T 256 256], 1/m."""
    rows, columns = np.mgrid[0:256, 0:256] / 256
    clip = np.repeat((0.4 + 0.9 * rows + 0.2 * columns)[None], number, axis=0)
    for t in range(number):
        clip[t, 60:140, 3 * t % 180 : 3 * t % 180 + 60] = 1.8
    clip += np.random.default_rng(0).normal(0, 0.01, clip.shape)
    return clip.astype(np.float32)


@dataclass(frozen=True)
class Synthetic:
    """`frames` as a training clip."""

    depth: DepthClip
    key: str = "synthetic"
    camera: str = "front"

    @property
    def frames(self) -> int:
        return len(self.depth)

    @property
    def disparity_quantiles(self) -> tuple[float, ...]:
        return tuple(float(q) for q in np.quantile(self.depth.values, QUANTILES))

    def read(self, start: int, stop: int) -> DepthClip:
        return DepthClip.of(self.depth.values[start:stop], self.depth.kind)


def small(folder: Path, clip: DepthClip) -> Path:
    """A codebook with an encoder of width 64, trained for a few seconds: an untrained encoder's
    latents are so close together that rounding decides their codes."""
    config = TokeniserConfig(
        NetworkConfig(width=64),
        QuantizerConfig(warmup=40),
        TrainingConfig(steps=60, batch=12, held_out=0),
    )
    return train(config, [ClipSource("synthetic", "", [Synthetic(clip)])], folder, TrainOptions())


class LibraryLoop:
    """The same encoder, then the library's quantiser."""

    def __init__(self, folder: Path, batch: int) -> None:
        codec = Codec.load(folder)
        self.encoder = codec.model.encoder.to(memory_format=torch.contiguous_format)
        self.rule = codec.codebook.normalisation
        vectors = torch.from_numpy(codec.codebook.vectors.copy())
        self.quantizer = VectorQuantize(dim=vectors.shape[1], codebook_size=len(vectors)).eval()
        self.quantizer._codebook.embed.data.copy_(vectors[None])
        self.batch = batch

    @torch.no_grad()
    def __call__(self, clip: DepthClip) -> np.ndarray:
        codes = []
        for start in range(0, len(clip), self.batch):
            images = self.rule.apply(clip.values[start : start + self.batch], BOUNDS)
            latents = self.encoder(torch.from_numpy(images)[:, None])
            _, index, _ = self.quantizer(latents.flatten(1, 2))
            codes.append(index.numpy().astype(np.uint8).reshape(latents.shape[:3]))
        return np.concatenate(codes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--codebook", type=Path, help="default: width 64, trained briefly")
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    clip = DepthClip.of(frames(options.frames), DepthKind.DISPARITY)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.codebook or small(Path(temporary) / "cb", clip)
        codec = Codec.load(folder)
        single, eight = LibraryLoop(folder, 1), LibraryLoop(folder, 8)
        runs = {
            "ours": lambda: codec.encode(clip, BOUNDS),
            "library, batch 1": lambda: single(clip),
            "library, batch 8": lambda: eight(clip),
        }
        compare(runs, options.frames, options.rounds)


def compare(runs: dict, number: int, rounds: int) -> None:
    codes = {name: run() for name, run in runs.items()}  # also warms up
    times = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.process_time()
            run()
            times[name].append(time.process_time() - start)
    ours = min(times["ours"])
    for name, durations in times.items():
        best = min(durations)
        changed = int((codes[name] != codes["ours"]).sum())
        print(
            f"{name:18} {number / best:7.0f} frames/s (CPU time)   ours is {best / ours:4.2f}x"
            f"   codes that differ: {changed} of {codes['ours'].size}"
        )


if __name__ == "__main__":
    main()
