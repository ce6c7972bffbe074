"""Training of QDepth-VLA on this machine: samples a second, beside what its arithmetic allows.

    python benchmarks/vla_rate.py [--preset qdepth] [--batch 32 64] [--set KEY=VALUE] [--json FILE]

Whole updates (`vla/update.py`) on random batches on the device, with random weights: forward,
backward, clipping and AdamW; eager, then with compiled layers. `--passes 4` also takes steps of
four passes. The floor is the model's FLOPs (counted) at the device's rate of large products in
bfloat16 (float32 on a CPU), which is measured first. A size that does not fit has no figure.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from vla_step import example
from vq_rate import rate, wait

from vla import model as models
from vla import optim
from vla.config import Config
from vla.flops import forward_flops
from vla.model import QDepthVLA, build
from vla.named import load
from vla.parallel import Ranks, compile_layers
from vla.update import Update


def made(config: Config, device: torch.device) -> QDepthVLA:
    """A model whose weights were drawn on its device."""
    if device.type == "cpu":
        model = build(config.model, 0)
    else:
        with torch.device("meta"):
            model = QDepthVLA(config.model)
        model.to_empty(device=device)
        draw = torch.Generator(device).manual_seed(0)
        for module in model.modules():
            models._start(module, draw)
        model.depth_head.log_scale.data.zero_()
    depth = config.model.depth
    model.depth_head.set_codebook(torch.randn(depth.codes, depth.code_dim, device=device))
    for part in model.modules():
        if hasattr(part, "fast"):
            part.fast = config.train.fast
    return model.train()


def measure(
    model: QDepthVLA, config: Config, device: torch.device, passes: int, rounds: int
) -> float:
    """Samples a second of whole updates."""
    batch = config.train.batch
    optim.freeze(model, config.train)
    update = Update(
        config, model, model, optim.trained(model), optim.optimizer(model, config.train), None,
        Ranks(), device, batch // passes,
    )  # fmt: skip
    data = example(config, batch).to(device)
    for step in range(2):  # warms up, and compiles
        update(data, step)
    wait(device)
    begun = time.perf_counter()
    for step in range(rounds):
        update(data, 2 + step)
    wait(device)
    return batch * rounds / (time.perf_counter() - begun)


def rows(config: Config, options: argparse.Namespace, device: torch.device) -> Iterator[dict]:
    """A row for each way and size."""
    floor = rate(device) / (3 * forward_flops(config.model)["total"])
    model = made(config, device)
    for compiled in (False, True) if options.compile else (False,):
        if compiled:
            compile_layers(model)
        for batch in options.batch:
            for passes in sorted({1, options.passes}):
                sized = replace(config, train=replace(config.train, batch=batch * passes))
                how = "compiled" if compiled else "eager"
                size = f"batch {batch}" + (f" x {passes} passes" if passes > 1 else "")
                row = {"what": f"train-vla {options.preset}, {how}, {size}", "floor": floor}
                try:
                    found = measure(model, sized, device, passes, options.rounds)
                    yield {**row, "figure": found, "unit": "samples/s"}
                except torch.OutOfMemoryError as error:
                    yield {**row, "failed": str(error).split(".")[0]}
                for weight in model.parameters():
                    weight.grad = None
                gc.collect()


def main() -> None:
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="qdepth" if gpu else "tiny")
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 64] if gpu else [2])
    parser.add_argument("--passes", type=int, default=1, help="also steps of so many passes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=gpu)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", help="a file to append every row to, as it is found")
    options = parser.parse_args()
    settings = {key: json.loads(value) for key, value in (s.split("=", 1) for s in options.set)}
    config = load(options.preset, settings)
    for row in rows(config, options, torch.device("cuda" if gpu else "cpu")):
        told = f"{row['figure']:.1f} samples/s" if "figure" in row else row["failed"]
        print(f"{row['what']}: {told}, floor {row['floor']:.1f}", flush=True)
        if options.json:
            with Path(options.json).open("a") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
