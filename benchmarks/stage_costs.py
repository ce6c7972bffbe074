"""The cost of a step in every stage: CPU, bytes, files. docs/scaling.md extrapolates from it.

    python benchmarks/stage_costs.py [RLDS_DIR] [--rounds 3] [--json OUT]

Runs convert, annotate (with the data set's own depth) and tokenize in this process, with one
thread, and then times the underlying operations: digests, commits, removals, maps, reads. There is
no baseline: the figures are for extrapolation, not comparison. CPU seconds are of this process;
figures are medians of the rounds. The codebook is untrained, because that does not affect speed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import numpy as np
import torch

from depthtok import sample
from depthtok.config import RunOptions
from depthtok.disk.files import commit_directory
from depthtok.normalisation import Normalisation
from depthtok.sources.rlds import RldsDirectory
from depthtok.stores import codebook
from depthtok.stores.arrays import ArraySpec, ArrayWriter
from depthtok.stores.codebook import Codebook
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.store import Store
from pipelines.annotate.stage import AnnotateStage
from pipelines.config import AnnotateConfig, ConvertConfig, TokenizeConfig
from pipelines.convert.stage import ConvertStage
from pipelines.run import run
from pipelines.stage import Stage
from pipelines.tokenize import READ, TokenizeStage
from vqvae.config import TokeniserConfig
from vqvae.model.model import Tokeniser
from vqvae.training import export

SAMPLE = Path(sample.__file__).parent / "libero_sample" / "1.0.0"
JITTER = 0.005  # of disparity between frames: about what an estimator adds to true depth


def cpu(call: Callable[[], object]) -> float:
    """CPU seconds of a call."""
    started = time.process_time()
    call()
    return time.process_time() - started


def wall(call: Callable[[], object]) -> float:
    """Wall-clock seconds of a call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def untrained(folder: Path) -> Codebook:
    """The default network with random weights and random codes."""
    config = TokeniserConfig()
    model = Tokeniser(config.network, config.quantizer, seed=0)
    latents = torch.randn(4096, config.network.dim, generator=torch.Generator().manual_seed(0))
    model.quantizer.initialise(latents, seed=0)
    meta = export.description(config, Normalisation(), demo=True)
    codebook.write(folder, export.weights_of(model), {**meta, "codes": 256})
    return Codebook.load(folder)


def stages(source: Path, folder: Path, book: Codebook) -> dict[str, float]:
    """One run of the three stages into `folder`."""
    rlds = RldsDirectory.open(source)
    costs = cost("convert", ConvertStage(rlds, folder / "episodes", ConvertConfig()))
    episodes = EpisodeStore(folder / "episodes")
    config = AnnotateConfig(estimator="dataset")
    costs |= cost("annotate", AnnotateStage(episodes, folder / "depth", config, "cpu"))
    depth = DepthStore(folder / "depth")
    stage = TokenizeStage(depth, book, folder / "codes", TokenizeConfig(), "cpu", {})
    costs |= cost("tokenize", stage)
    read = cpu(lambda: [clip.read(0, READ) for clip in depth.clips()])
    frames = sum(min(len(clip), READ) for clip in depth.clips())
    return {**costs, "read_depth_frames_per_cpu_s": frames / read}


def cost(name: str, stage: Stage) -> dict[str, float]:
    """A stage's units per CPU second, bytes per unit, files and directories of its first part."""
    started = time.process_time()
    outcome = run(stage, RunOptions())
    busy = time.process_time() - started
    units = outcome.frames_made or outcome.steps
    per = "frame" if outcome.frames_made else "step"
    part = next(iter(Store(stage.out).parts()))
    inside = [path.is_dir() for path in part.path.rglob("*")]
    return {
        f"{name}_{per}s_per_cpu_s": units / busy,
        f"{name}_bytes_per_{per}": outcome.bytes / units,
        f"{name}_files_of_a_part": len(inside) - sum(inside),
        f"{name}_directories_of_a_part": 1 + sum(inside),
    }


def underneath(folder: Path) -> dict[str, float]:
    """The cost of the basic operations of the stages and the loader."""
    data = os.urandom(1 << 25)
    costs = {
        "sha256_mb_per_cpu_s": len(data) / 1e6 / cpu(lambda: hashlib.sha256(data).digest()),
        "crc32c_mb_per_cpu_s": len(data) / 1e6 / cpu(lambda: google_crc32c.value(data)),
    }
    for name in ("episodes", "depth", "codes"):
        part = next(iter(Store(folder / name).parts())).path
        costs |= {f"{name}_{k}": v for k, v in commits(part, folder / "commits").items()}
    store = EpisodeStore(folder / "episodes")
    part = store.part(store.part_names[0])
    store.table(part, "images")  # computes the digest
    costs["map_a_table_us"] = 1e6 * min(wall(lambda: part.map("images")) for _ in range(50))
    return {**costs, "float16_bytes_per_frame": float16(DepthStore(folder / "depth"), folder)}


def commits(part: Path, folder: Path, count: int = 8) -> dict[str, float]:
    """Milliseconds to commit, and to remove, copies of a part."""
    durations = []
    for number in range(count):
        with commit_directory(folder / str(number)) as directory:
            shutil.copytree(part, directory, dirs_exist_ok=True)
            started = time.perf_counter()
        durations.append(time.perf_counter() - started)
    removed = wall(lambda: shutil.rmtree(folder)) / count
    return {"commit_ms": 1e3 * statistics.median(durations), "remove_ms": 1e3 * removed}


def float16(store: DepthStore, folder: Path) -> float:
    """Bytes per frame of disparity as float16, with the jitter that an estimator would add."""
    rng, frames = np.random.default_rng(0), 0
    (folder / "float16").mkdir()
    writer = ArrayWriter(folder / "float16", "depth", ArraySpec("float16", store.size, stream=True))
    for clip in store.clips():
        values = clip.read(0, 32).to_disparity().values
        height, width = store.size
        coarse = rng.normal(0, JITTER, (len(values), height // 8, width // 8))
        values = values * (1 + coarse.repeat(8, 1).repeat(8, 2))
        values *= 1 + rng.normal(0, JITTER / 5, values.shape)
        writer.append(values.astype(np.float16))
        frames += len(values)
    writer.close()
    files = (path for path in (folder / "float16").rglob("*") if path.is_file())
    return sum(path.stat().st_size for path in files) / frames


def measure(source: Path, rounds: int) -> dict[str, float]:
    """Medians over the rounds."""
    torch.set_num_threads(1)
    rounds_measured = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            figures = stages(source, folder, untrained(folder / "codebook"))
            rounds_measured.append({**figures, **underneath(folder)})
    return {
        name: statistics.median(one[name] for one in rounds_measured) for name in rounds_measured[0]
    }


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, nargs="?", default=SAMPLE)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    costs = measure(options.source, options.rounds)
    for name, value in costs.items():
        print(f"{name:>32}  {value:,.1f}")
    if options.json:
        options.json.write_text(json.dumps(costs, indent=2) + "\n")


if __name__ == "__main__":
    main()
