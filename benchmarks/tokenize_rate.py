"""Throughput of `depthtok tokenize` relative to its encoder alone, on one CPU thread.

    python benchmarks/tokenize_rate.py DEPTH CODEBOOK [--frames 512] [--rounds 5]

Encoder: frames in memory, normalised, encoded and searched. tokenize: the whole stage in this
process: read, unpack, normalise, encode, search, write, hash, commit. Rounds are interleaved;
rates are by CPU time (all threads of the process) of the fastest rounds, and by wall time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from depthtok.config import RunOptions
from depthtok.stores.codebook import Codebook
from depthtok.stores.depth import DepthStore
from pipelines.config import TokenizeConfig
from pipelines.run import run
from pipelines.tokenize import TokenizeStage
from vqvae.codec import Codec


def encode(codec: Codec, clips: list) -> int:
    """Encodes clips in memory; returns the number of frames."""
    for clip, bounds in clips:
        codec.encode(clip, bounds)
    return sum(len(clip) for clip, _ in clips)


def tokenize(depth: DepthStore, book: Codebook, folder: Path) -> int:
    """Runs the stage into a fresh directory; returns the number of frames."""
    stage = TokenizeStage(depth, book, folder, TokenizeConfig(), "cpu", {})
    return run(stage, RunOptions()).frames_made


def timed(work) -> tuple[float, float]:
    """Frames per CPU-second, and per second."""
    wall, cpu = time.monotonic(), time.process_time()
    frames = work()
    return frames / (time.process_time() - cpu), frames / (time.monotonic() - wall)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("depth", type=Path)
    parser.add_argument("codebook", type=Path)
    parser.add_argument("--frames", type=int, default=512, help="frames in memory, for the encoder")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    depth, book = DepthStore(options.depth), Codebook.load(options.codebook)
    codec, clips = Codec.load(options.codebook), []
    for clip in depth.clips():
        if sum(len(frames_of_clip) for frames_of_clip, _ in clips) < options.frames:
            bounds = book.normalisation.range_of(clip.disparity_quantiles)
            clips.append((clip.read().to_disparity(), bounds))
    rates: dict[str, list] = {"encoder": [], "tokenize": []}
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(options.rounds):
            rates["encoder"].append(timed(lambda: encode(codec, clips)))
            out = Path(temporary) / str(number)
            rates["tokenize"].append(timed(lambda out=out: tokenize(depth, book, out)))
    best = {name: np.max(frames_of_clip, axis=0) for name, frames_of_clip in rates.items()}
    for name, (cpu, wall) in best.items():
        share = cpu / best["encoder"][0], wall / best["encoder"][1]
        print(
            f"{name:9} {cpu:6.0f} frames/CPU-s ({share[0]:.0%})   {wall:6.0f} frames/s "
            f"({share[1]:.0%})"
        )


if __name__ == "__main__":
    main()
