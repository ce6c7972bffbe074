"""One training step of QDepth-VLA: experts one after another against one joint attention.

    python benchmarks/vla_step.py [--rounds 15] [--threads 1]

Same weights, same batch, same losses. The joint form is eager attention over all tokens of all
experts under one mask, as published code of the family computes it; `soft cap` adds its tanh.
They alternate within every round, and the ratio is of medians, so that load affects both.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from vla.config import Config
from vla.model.batch import Batch
from vla.model.model import build
from vla.named_configs import load

SIZES = {
    "model.vision.image_size": 128,
    "model.vision.patch": 8,  # 256 tokens, as in the paper
    "model.vision.width": 96,
    "model.max_text": 20,
    "model.chunk": 4,
    **{f"model.{e}.layers": 4 for e in ("vlm", "action", "depth_expert")},
    **{f"model.{e}.heads": 8 for e in ("vlm", "action", "depth_expert")},
    **{f"model.{e}.head_dim": 32 for e in ("vlm", "action", "depth_expert")},
    "model.vlm.width": 256,
    "model.vlm.mlp": 2048,
    **{f"model.{e}.width": 128 for e in ("action", "depth_expert")},
    **{f"model.{e}.mlp": 512 for e in ("action", "depth_expert")},
}


def example(config: Config, batch: int) -> Batch:
    """A random batch."""
    model = config.model
    size, grid = model.vision.image_size, model.depth.grid**2
    shape = (batch, model.cameras, size, size, 3)
    return Batch(
        images_BIHW3=torch.randint(0, 256, shape, dtype=torch.uint8),
        text_BL=torch.randint(4, 260, (batch, model.max_text)),
        text_valid_BL=torch.arange(model.max_text).expand(batch, -1) < 12,
        proprio_BP=torch.randn(batch, model.proprio_dim),
        actions_BCA=torch.rand(batch, model.chunk, model.action_dim) * 2 - 1,
        action_valid_BC=torch.ones(batch, model.chunk, dtype=torch.bool),
        depth_BMK=torch.randint(0, model.depth.codes, (batch, 1, grid)),
        depth_valid_BM=torch.ones(batch, 1, dtype=torch.bool),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    config = load("tiny", SIZES)
    model = build(config.model, 0, torch.randn(256, 160))
    batch = example(config, options.batch)
    noise = torch.randn(batch.actions_BCA.shape)
    moments = torch.rand(options.batch)
    ways = {
        "eager joint attention": lambda: model.reference(batch, noise, moments),
        "eager joint, soft cap": lambda: model.reference(batch, noise, moments, soft_cap=50.0),
        "one after another, SDPA": lambda: model(batch, noise, moments),
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(options.rounds + 1):
        for name, losses_of in ways.items():
            model.zero_grad(set_to_none=True)
            started = time.perf_counter()
            losses = losses_of()
            (losses.flow + 0.01 * losses.depth).backward()
            if round_:  # the first round warms up
                spent[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(seconds) for name, seconds in spent.items()}
    baseline = medians["eager joint attention"]
    for name, seconds in medians.items():
        print(f"{name:26} {1000 * seconds:8.1f} ms  {baseline / seconds:5.2f} x")


if __name__ == "__main__":
    main()
