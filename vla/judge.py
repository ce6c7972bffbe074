"""How well a trained depth expert reads data that it may never have seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64

from depthtok.errors import ConfigError
from vla.batch import Batch
from vla.data import Dataset
from vla.depth_head import depth_loss
from vla.depth_view import Decode, DepthView, nearest
from vla.loader import Loader
from vla.model import QDepthVLA
from vla.validate import SEED, top1

BATCH = 16


@dataclass(frozen=True)
class DepthScore:
    """Figures by name, and some frames to look at."""

    figures: dict[str, float]
    view: DepthView | None


@torch.inference_mode()
def judge_depth(
    model: QDepthVLA, dataset: Dataset, samples: int, decode: Decode, device: torch.device | str
) -> DepthScore:
    """Scores over `samples` shuffled samples (all, where there are fewer).

    `depth` and `top1` are loss and share of right codes; `error` that of the decoded depth, as a
    share of the range. `constant_*` are the same figures for the best answer that ignores the
    picture: the distribution, and the likeliest code, of each position *of these very samples*.
    Raises `ConfigError` for a model that was not trained on codes.
    """
    head = model.config.depth
    if not head.supervised or head.target == "pixels":
        raise ConfigError(
            "this policy's depth expert was not trained to predict codes",
            remedy="name a run with model.depth.target = 'codes' or 'latents'",
        )
    samples = min(samples, len(dataset))
    sums, view, seen = np.zeros(4), None, []  # loss, right, error, frames
    with Loader(dataset, BATCH, seed=SEED, workers=2, device=device) as loader:
        for part, start in zip(loader, range(0, samples, BATCH), strict=False):
            rows = part.rows(0, min(BATCH, samples - start))
            if rows.depth_valid_BM.any():
                found = _batch(model, rows, decode)
                view = view or found[1]
                sums += found[0]
                valid = rows.depth_valid_BM[:, 0].cpu()
                seen.append(rows.depth_BMK[:, 0].cpu()[valid].numpy())
    loss, right, error = (sums[:3] / sums[3]).tolist()
    figures = {"frames": int(sums[3]), "depth": loss, "top1": right, "error": error}
    targets = np.concatenate(seen).astype(np.int64)
    return DepthScore(figures | _constant(targets, head.codes, head.grid, decode), view)


def _batch(model: QDepthVLA, part: Batch, decode: Decode) -> tuple[np.ndarray, DepthView]:
    """Sums of loss, right codes, decoded error and frames, of the first camera."""
    predicted = model.predict_depth(part)
    head = model.depth_head
    loss = depth_loss(head.config, predicted, part.depth_BMK, part.depth_valid_BM, head.codebook_KD)
    if head.config.target == "codes":
        right = top1(predicted, part)
    else:
        hits = (nearest(head, predicted) == part.depth_BMK).float().mean(dim=-1)
        right = hits[part.depth_valid_BM].mean()
    view = DepthView.of(head, part, predicted, decode, len(part))
    frames = len(view.image)
    return np.array([loss.item(), right.item(), view.errors().mean(), 1]) * frames, view


def _constant(
    codes_NP: Int64[np.ndarray, "N P"], count: int, grid: int, decode: Decode
) -> dict[str, float]:
    """What knowing the positions alone gives."""
    places = np.arange(codes_NP.shape[1])
    table = np.zeros((len(places), count))
    np.add.at(table, (np.broadcast_to(places, codes_NP.shape), codes_NP), 1)
    share = table / len(codes_NP)
    entropy = -(share * np.log(np.where(share > 0, share, 1))).sum(axis=1).mean()
    likeliest = decode(share.argmax(axis=1).astype(np.uint8).reshape(1, grid, grid))
    some = codes_NP[:: max(1, len(codes_NP) // 64)].astype(np.uint8).reshape(-1, grid, grid)
    truth = decode(some)
    blank = np.zeros((len(some), 1, 1, 3), np.uint8)
    view = DepthView(blank, truth, np.broadcast_to(likeliest, truth.shape), grid)
    return {
        "constant_depth": float(entropy),
        "constant_top1": float(share.max(axis=1).mean()),
        "constant_error": float(view.errors().mean()),
    }
