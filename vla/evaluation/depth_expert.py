"""Evaluation of a trained depth expert on any data set."""

# N frames, P code positions, K codes, D code width

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64

from depthtok.errors import ConfigError
from depthtok.required import require
from vla.config import DepthConfig
from vla.data.dataset import Dataset
from vla.data.loader import Loader
from vla.evaluation.depth_view import Decode, DepthView, nearest
from vla.model.batch import Batch
from vla.model.depth_head import DepthHead, depth_loss
from vla.model.model import QDepthVLA
from vla.training.validation import SEED

BATCH = 16


@dataclass(frozen=True)
class DepthScore:
    """Figures by name, and some example frames."""

    figures: dict[str, float]
    view: DepthView | None


def require_codes(config: DepthConfig) -> None:
    """Raises `ConfigError` if the depth expert was not trained on codes."""
    if not config.supervised or config.target == "pixels":
        raise ConfigError(
            "this policy's depth expert was not trained to predict codes",
            remedy="name a run with model.depth.target = 'codes' or 'latents'",
        )


@torch.inference_mode()
def evaluate_depth(
    model: QDepthVLA, dataset: Dataset, samples: int, decode: Decode, device: torch.device | str
) -> DepthScore:
    """Scores of the first camera over `samples` shuffled samples (all, if there are fewer).

    `depth` is the loss, `top1` the code accuracy, `error` the error of the decoded depth as a
    share of the range. `constant_*` are the same figures for the best prediction that ignores the
    image: the distribution (or mean latent) and the most frequent code at each position *of these
    same samples*. Raises `ConfigError` for no samples, or a model not trained on codes.
    """
    require(samples >= 1, "samples", samples, "give 1 or more")
    require_codes(model.config.depth)
    samples = min(samples, len(dataset))
    sums, view, codes = np.zeros(4), None, []  # loss, correct, error, frames
    with Loader(dataset, BATCH, seed=SEED, threads=2, device=device) as loader:
        # The range first: the loader is endless, and would decode a batch that nobody scores.
        for start, part in zip(range(0, samples, BATCH), loader, strict=False):
            rows = part.rows(0, min(BATCH, samples - start))
            if rows.depth_valid_BM[:, 0].any():
                batch_sums, batch_view = _batch(model, rows, decode)
                view = view or batch_view
                sums += batch_sums
                valid = rows.depth_valid_BM[:, 0].cpu()
                codes.append(rows.depth_BMK[:, 0].cpu()[valid].numpy())
    if not codes:
        raise ConfigError(
            f"none of {samples} frames of camera {dataset.config.data.cameras[0]!r} has depth: the "
            "episodes end before the predicted frame, or do not have this camera",
            remedy="name another camera first with --camera",
        )
    loss, right, error = (sums[:3] / sums[3]).tolist()
    figures = {"frames": int(sums[3]), "depth": loss, "top1": right, "error": error}
    targets = np.concatenate(codes).astype(np.int64)
    return DepthScore(figures | _constant(targets, model.depth_head, decode), view)


def _batch(model: QDepthVLA, part: Batch, decode: Decode) -> tuple[np.ndarray, DepthView]:
    """Sums over the first camera of loss, correct codes, decoded error and frames."""
    predicted, head = model.predict_depth(part)[:, :1], model.depth_head
    target, valid = part.depth_BMK[:, :1], part.depth_valid_BM[:, :1]
    loss = depth_loss(head.config, predicted, target, valid, head.codebook_KD)
    right = (nearest(head, predicted) == target).float().mean(dim=-1)[valid].mean()
    view = DepthView.of(head, part, predicted, decode, len(part))
    assert view is not None, "no frame has a target"
    frames = len(view.image)
    return np.array([loss.item(), right.item(), view.errors().mean(), 1]) * frames, view


def _constant(
    codes_NP: Int64[np.ndarray, "N P"], head: DepthHead, decode: Decode
) -> dict[str, float]:
    """Figures of the best prediction from the code positions alone."""
    grid, positions = head.config.grid, np.arange(codes_NP.shape[1])
    table = np.zeros((len(positions), head.config.codes))
    np.add.at(table, (np.broadcast_to(positions, codes_NP.shape), codes_NP), 1)
    share_PK = table / len(codes_NP)
    likeliest = decode(share_PK.argmax(axis=1).astype(np.uint8).reshape(1, grid, grid))
    errors = []
    for start in range(0, len(codes_NP), BATCH):  # decoded, all at once would not fit
        truth = decode(codes_NP[start : start + BATCH].astype(np.uint8).reshape(-1, grid, grid))
        blank = np.zeros((len(truth), 1, 1, 3), np.uint8)
        view = DepthView(blank, truth, np.broadcast_to(likeliest, truth.shape), grid)
        errors.append(view.errors())
    return {
        "constant_depth": _least(share_PK, head),
        "constant_top1": float(share_PK.max(axis=1).mean()),
        "constant_error": float(np.concatenate(errors).mean()),
    }


def _least(share_PK: Float64[np.ndarray, "P K"], head: DepthHead) -> float:
    """The smallest loss of one prediction for all frames: the entropy of codes, or the variance of
    latents."""
    if head.config.target == "codes":
        return float(-(share_PK * np.log(np.where(share_PK > 0, share_PK, 1))).sum(axis=1).mean())
    codebook_KD = head.codebook_KD.double().cpu().numpy()
    return float((share_PK @ codebook_KD**2 - (share_PK @ codebook_KD) ** 2).mean())
