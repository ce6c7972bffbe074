"""How sure a policy's depth head is, and how sure it may be: on what it learnt, and on the rest.

    python benchmarks/depth_confidence.py RUN --episodes STORE --codes CODES [--frames 128]

Of the averaged weights, where a run has them. Printed are, for either side: the loss (nats a code)
with all logits multiplied by each of `MULTIPLIERS` (where a smaller one is better, the head is
overconfident), the best of them, the code accuracy, the mean probability of the chosen code, the
expected calibration error over `BINS` bins (0: as sure as right), and the mean square of x over
that of the true codes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from pipelines.train_vla import samples
from pipelines.train_vla.stores import OpenStores
from vla.config import Config
from vla.data.dataset import Dataset
from vla.data.loader import Loader
from vla.model.model import QDepthVLA
from vla.serving.policy import load_model
from vla.training import checkpoint
from vla.training.validation import SEED

MULTIPLIERS = (2.0, 1.0, 0.5, 0.25, 0.16, 0.1, 0.05)
BATCH, BINS = 16, 15


def sides(config: Config, options: argparse.Namespace) -> dict[str, Dataset]:
    """What was learnt from and what was held out, without augmentation."""
    config = config.updated({"data.photometric": 0.0})
    stores = [options.episodes], [options.codes], [], options.codebook
    opened = OpenStores.open(config, *stores)
    learn, held_out = samples.datasets(
        config, opened, None, options.held_out, partial=False, cache=options.frame_cache
    )
    return {"learnt from": learn, "held out": held_out} if held_out else {"learnt from": learn}


@torch.inference_mode()
def predictions(
    model: QDepthVLA, dataset: Dataset, frames: int
) -> tuple[Float[Tensor, "F P K"], Int[Tensor, "F P"], float]:
    """Logits and true codes of the first camera; the mean square of x over that of the codes."""
    head, vectors = model.depth_head, []
    hook = head.smooth.register_forward_hook(lambda _, __, x: vectors.append(x.square().mean()))
    logits, codes = [], []
    with Loader(dataset, BATCH, seed=SEED, threads=0, device="cpu") as loader:
        for batch, _ in zip(loader, range(0, frames, BATCH), strict=False):
            logits.append(model.predict_depth(batch)[:, 0])
            codes.append(batch.depth_BMK[:, 0].long())
    hook.remove()
    true = torch.cat(codes)
    squares_K = head.centred().square().mean(dim=1)
    size = torch.stack(vectors).mean() * squares_K.mean() / squares_K[true].mean()
    return torch.cat(logits), true, size.item()


def losses(logits_FPK: Tensor, codes_FP: Tensor) -> dict[float, float]:
    """The loss, nats a code, by what the logits are multiplied by."""
    flat, true = logits_FPK.flatten(0, 1), codes_FP.flatten()
    return {by: F.cross_entropy(by * flat, true).item() for by in MULTIPLIERS}


def calibration(logits_FPK: Tensor, codes_FP: Tensor) -> tuple[float, float, float]:
    """Code accuracy, mean probability of the chosen codes, expected calibration error."""
    sure, chosen = logits_FPK.softmax(dim=-1).max(dim=-1)
    right = (chosen == codes_FP).float()
    bins = (sure * BINS).long().clamp(max=BINS - 1)
    gaps = [
        (bins == number).float().mean() * (sure - right)[bins == number].mean().abs()
        for number in bins.unique().tolist()
    ]
    return right.mean().item(), sure.mean().item(), torch.stack(gaps).sum().item()


def main() -> None:
    """Prints one line a side."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    for name in ("--episodes", "--codes"):
        parser.add_argument(name, type=Path, required=True)
    for name in ("--codebook", "--frame-cache"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--held-out", type=float, default=0.1, help="as in the training")
    parser.add_argument("--frames", type=int, default=128)
    options = parser.parse_args()
    path = checkpoint.find(options.run)
    config, model = checkpoint.read_config(path), load_model(path)
    print(f"{path}: scale {model.depth_head.log_scale.exp().item():.3g}")
    for side, dataset in sides(config, options).items():
        logits, codes, size = predictions(model, dataset, options.frames)
        by_multiplier = losses(logits, codes)
        accuracy, sure, error = calibration(logits, codes)
        print(
            f"{side}: accuracy {100 * accuracy:.1f} %, sure {100 * sure:.1f} %, calibration error "
            f"{100 * error:.1f} %, |x|^2 {size:.3g} |c|^2; loss "
            + ", ".join(f"{value:.3f} (x {by:g})" for by, value in by_multiplier.items()),
            flush=True,
        )


if __name__ == "__main__":
    main()
