"""Training samples from a LeRobot v3.0 data set: our loader against lerobot's own.

    python benchmarks/lerobot_loader.py LEROBOT_DIR --lerobot /path/to/its/python [--camera NAME]

Lerobot runs in an environment of its own, whose Python is named: a DataLoader in its process over
LeRobotDataset, shuffled, with chunks of actions: with pictures at their full size, and `resized`
to 224 px by its transforms. Ours are resized to 224 px (Lanczos), and instructions are tokenised.
Each side has one thread to load with, and is run in a separate process, alternately. What is
printed are medians: samples per CPU second, over all threads, after the first batch, and how many
times those of lerobot they are. `cached` is ours with frames decoded beforehand.

The directory is an export of ours (`depthtok export`), with one camera and no depth, as lerobot
decodes every video of a sample. `--backend` is its decoder: torchcodec needs FFmpeg's libraries.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

CHUNK, BATCH = 4, 16
SIDES = ("lerobot", "resized", "depthtok", "cached")
PIXELS = 224


def lerobot_batches(source: Path, backend: str, *, resized: bool) -> Iterator[object]:
    """The batches of lerobot's own loader, without an end."""
    import torch
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    fps = json.loads((source / "meta/info.json").read_text())["fps"]
    ahead = {"action": [step / fps for step in range(CHUNK)]}
    smaller = v2.Resize((PIXELS, PIXELS), v2.InterpolationMode.BICUBIC) if resized else None
    data = LeRobotDataset(
        "a/b",
        root=source,
        delta_timestamps=ahead,
        video_backend=backend,
        image_transforms=smaller,
    )
    torch.manual_seed(0)
    loader = torch.utils.data.DataLoader(data, BATCH, shuffle=True, num_workers=0)
    while True:
        yield from loader


def rate(side: str, options: argparse.Namespace) -> float:
    """Samples per CPU second of one side, in this process."""
    if side in ("lerobot", "resized"):
        batches = lerobot_batches(options.source, options.backend, resized=side == "resized")
    else:
        import torch
        from vla_loader import our_batches

        torch.set_num_threads(1)
        cache = options.store.parent / "frames" if side == "cached" else None
        batches = our_batches(options.store, options.camera, cache)
    next(batches)
    count = options.batches * (10 if side == "cached" else 1)
    before = time.process_time()
    for _ in range(count):
        next(batches)
    return count * BATCH / (time.process_time() - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, metavar="LEROBOT_DIR")
    parser.add_argument("--lerobot", type=Path, metavar="PYTHON", required=True)
    parser.add_argument("--backend", default="pyav", choices=("pyav", "torchcodec"))
    parser.add_argument("--camera", default="image")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(rate(options.side, options)))
        return
    rates: dict[str, list[float]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "episodes"
        schema = ("--schema", options.source / "schema.toml")
        command = ("-m", "depthtok", "convert", options.source, *schema, "--out", store)
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
        for number in range(options.rounds + 1):
            for side in SIDES:
                python = sys.executable if side in ("depthtok", "cached") else options.lerobot
                words = [*sys.argv, "--side", side, "--store", str(store)]
                done = subprocess.run([python, *words], check=True, capture_output=True, text=True)
                if number:  # the first round fills the cache, ours and that of the disk
                    rates[side].append(float(done.stdout.splitlines()[-1]))
    base = statistics.median(rates["lerobot"])
    for side, of_rounds in rates.items():
        middle = statistics.median(of_rounds)
        spread = f"{min(of_rounds):.4g} to {max(of_rounds):.4g}"
        print(f"{side:10}{middle:10.4g} samples/CPU s ({spread}), {middle / base:5.3g}x")


if __name__ == "__main__":
    main()
