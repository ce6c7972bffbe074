"""The depth tokeniser on this machine: training steps and tokenised frames a second.

    python benchmarks/vq_rate.py [--steps 200] [--frames 4096] [--json FILE]

Both are measured as a whole, on a GPU if there is one, and the host's part alone, which bounds
them: crops drawn and pasted (`vqvae/data/crops.py`), and frames read from a store and normalised by
1, 2, 4 and 8 threads (`pipelines/annotate/ahead.py`), with nothing that uses them. The host's
figures come per second and per CPU second (over all threads), because the first depends on other
load. Floors are
those of kernels alone: the FLOPs of convolutions and products, at the device's rate of large
products (bfloat16 on a GPU, float32 on a CPU), measured first.

Depth is that of made-up episodes with millimetres, 256 px, 35 steps each, as in docs/scaling.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from depthtok.config import RunOptions
from depthtok.normalisation import Normalisation
from depthtok.sources.rlds import RldsDirectory
from depthtok.stores import codebook
from depthtok.stores.codebook import Codebook
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.testing import make_rlds
from pipelines.annotate.ahead import CodesAhead
from pipelines.annotate.stage import AnnotateStage
from pipelines.config import AnnotateConfig, ConvertConfig, TokenizeConfig
from pipelines.convert.stage import ConvertStage
from pipelines.run import run
from pipelines.tokenize import TokenizeStage
from vqvae.codec import GROUP_CUDA, Codec
from vqvae.config import TokeniserConfig
from vqvae.data import crops
from vqvae.data.clips import ClipSource, StoredClips
from vqvae.data.crops import Crops
from vqvae.data.frames import DepthCache
from vqvae.model.model import Tokeniser
from vqvae.training import export
from vqvae.training.train import TokeniserTrainer

STEPS = 35  # of an episode


def stores(folder: Path, frames: int) -> tuple[DepthStore, Codebook]:
    """Depth, and a codebook of the default network with random weights, which cost the same."""
    episodes = max(1, frames // (2 * STEPS))
    steps = [STEPS] * episodes
    rlds = make_rlds(folder / "1.0.0", episodes=episodes, steps=steps, shards=1, size=256)
    run(ConvertStage(RldsDirectory.open(rlds), folder / "episodes", ConvertConfig()), RunOptions())
    config = AnnotateConfig(estimator="dataset", size=256)
    stage = AnnotateStage(EpisodeStore(folder / "episodes"), folder / "depth", config, "cpu")
    run(stage, RunOptions())
    settings = TokeniserConfig()
    model = Tokeniser(settings.network, settings.quantizer, seed=0)
    latents = torch.randn(4096, settings.network.dim, generator=torch.Generator().manual_seed(0))
    model.quantizer.initialise(latents, seed=0)
    meta = {**export.description(settings, Normalisation(), demo=True), "codes": 256}
    codebook.write(folder / "book", export.weights_of(model), meta)
    return DepthStore(folder / "depth"), Codebook.load(folder / "book")


def rate(device: torch.device) -> float:
    """FLOP/s of large products: bfloat16 on a GPU, float32 on a CPU."""
    side, kind = (8192, torch.bfloat16) if device.type == "cuda" else (1024, torch.float32)
    x = torch.randn(side, side, device=device, dtype=kind)
    return 2 * side**3 / seconds(lambda: x @ x, device, 5)


def seconds(call, device: torch.device, times: int) -> float:
    """Of one call, on average, after one to warm up."""
    for number in range(times + 1):
        if number == 1:
            wait(device)
            started = time.perf_counter()
        call()
    wait(device)
    return (time.perf_counter() - started) / times


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def training(
    depth: DepthStore, folder: Path, device: torch.device, steps: int, flops: float
) -> Iterator[dict]:
    """Steps a second: all of it, and the crops alone."""
    config = TokeniserConfig().with_training(steps=10_000)
    source = ClipSource("made up", "", StoredClips(depth, depth.cameras))
    cache = DepthCache.build(folder / "work", [source], Normalisation(), 256, 0)
    trainer = TokeniserTrainer(config, cache, str(device))
    with FlopCounterMode(display=False) as counter:
        trainer.advance()
    floor = flops / counter.get_total_flops()
    trainer.advance()
    steps_per_s = 1 / seconds(trainer.advance, device, steps)
    trainer.crops.close()
    yield {
        "what": "train-vqvae, batch 24",
        "figure": steps_per_s,
        "unit": "steps/s",
        "floor": floor,
    }

    def draw(step: int):
        return cache.batch(config.training, config.network.cell, (0, step), parts=2)

    cpu = time.process_time()
    for step in range(steps):
        draw(step)
    cpu = steps / (time.process_time() - cpu)
    yield {"what": "crops alone", "figure": cpu, "unit": "steps/CPU-s"}
    for threads in (1, crops.THREADS):
        made = Crops(draw, 10_000, torch.device("cpu"))
        made._pool._max_workers = threads
        started = time.perf_counter()
        for step in range(steps):
            made.take(step)
        alone = steps / (time.perf_counter() - started)
        made.close()
        yield {"what": f"crops alone, {threads} threads", "figure": alone, "unit": "steps/s"}


class Nothing:
    """In the place of a codec for a GPU: takes staged groups, and gives zeros at once."""

    def __init__(self, codec: Codec) -> None:
        self.codebook, self.group, self._codec = codec.codebook, GROUP_CUDA, codec
        codec.group = GROUP_CUDA
        self._zeros = np.zeros((GROUP_CUDA, *codec.codebook.grid), np.uint8)

    def staged(self, blocks, bounds, first):
        return self._codec.staged(blocks, bounds, first)

    def begin(self, images, *, sticky: bool):
        return SimpleNamespace(codes=lambda *_: self._zeros)


def tokenising(
    depth: DepthStore, book: Codebook, folder: Path, device: torch.device, flops: float
) -> Iterator[dict]:
    """Frames a second: the whole stage, the network alone, and the host alone."""
    stage = TokenizeStage(depth, book, folder / "codes", TokenizeConfig(), device.type, {})
    started = time.perf_counter()
    frames_per_s = run(stage, RunOptions()).frames_made / (time.perf_counter() - started)
    codec = Codec.load(book.path, device)
    group = torch.rand(codec.group, 1, *book.size)
    with FlopCounterMode(display=False) as counter:
        codec.begin(group).codes()
    floor = flops / (counter.get_total_flops() / codec.group)
    yield {"what": "tokenize", "figure": frames_per_s, "unit": "frames/s", "floor": floor}
    staged = group.pin_memory() if device.type == "cuda" else group
    alone = codec.group / seconds(lambda: codec.begin(staged), device, 20)
    yield {"what": "encoder alone", "figure": alone, "unit": "frames/s", "floor": floor}
    clips = list(depth.clips())
    frames = sum(len(clip) for clip in clips)
    stand_in = Nothing(Codec.load(book.path))
    for readers in (1, 2, 4, 8):
        wall, cpu = time.perf_counter(), time.process_time()
        with closing(CodesAhead(stand_in, 0.0, clips, readers)) as stream:
            for clip in clips:
                for _ in stream.codes(clip):
                    pass
        cpu, wall = (frames / (time.process_time() - cpu), frames / (time.perf_counter() - wall))
        what = f"reading and normalising alone, {readers} threads"
        yield {"what": what, "figure": wall, "unit": "frames/s"}
        yield {"what": what, "figure": cpu, "unit": "frames/CPU-s"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=200, help="training steps")
    parser.add_argument("--frames", type=int, default=4096, help="frames to tokenise")
    parser.add_argument("--json", help="a file to append every row to, as it is found")
    options = parser.parse_args()
    device = torch.device(options.device)
    folder = Path(tempfile.mkdtemp())
    try:
        depth, book = stores(folder, options.frames)
        flops = rate(device)
        for row in itertools.chain(
            training(depth, folder, device, options.steps, flops),
            tokenising(depth, book, folder, device, flops),
        ):
            floor = row.get("floor")
            share = f", {row['figure'] / floor:.0%} of its floor {floor:.0f}" if floor else ""
            print(f"{row['what']}: {row['figure']:.1f} {row['unit']}{share}", flush=True)
            if options.json:
                with Path(options.json).open("a") as file:
                    file.write(json.dumps(row) + "\n")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
