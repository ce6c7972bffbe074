"""How good a model is on samples that it does not train on."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from vla.batch import Batch
from vla.data import Dataset
from vla.depth_view import Decode, DepthView
from vla.loader import Loader
from vla.model import QDepthVLA
from vla.parallel import Ranks

DECODED = 4
THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.5)  # of normalised actions
SEED = 20_240


@torch.no_grad()
def validate(
    model: QDepthVLA,
    dataset: Dataset,
    share: int,
    batches: int,
    device: torch.device | str,
    ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
    decode: Decode | None = None,
) -> tuple[dict[str, float], DepthView | None]:
    """Means over `batches` fixed batches of `share` samples a rank, with fixed noise: the same
    samples whenever called.

    `action_mse` and `action_within_*` compare sampled actions with the true ones, normalised;
    `action_mse_shuffled` does so under another sample's instruction: a model that reads its
    instruction is worse there. `depth_error` is that of the first `DECODED` samples of every batch
    after decoding, as a share of the range; those of the first batch come back as pictures.
    """
    model.eval()
    sums: dict[str, Tensor] = {}
    count, view, decoded = 0, None, torch.zeros(2)  # sum of errors, frames
    batch = share * ranks.count
    with Loader(
        dataset, batch, seed=SEED, rank=ranks.rank, ranks=ranks.count, workers=0, device=device
    ) as loader:
        for part, _ in zip(loader, range(batches), strict=False):
            generator = torch.Generator().manual_seed(SEED + count)
            noise = torch.randn(batch, *part.actions_BCA.shape[1:], generator=generator)
            scores, predicted = _scores(model, part, noise[ranks.rows(batch)].to(device))
            if predicted is not None:
                found = DepthView.of(model.depth_head, part, predicted, decode, DECODED)
                view = view or found
                if found is not None:
                    errors = torch.from_numpy(found.errors())
                    decoded += torch.stack([errors.sum(), torch.tensor(float(len(errors)))])
            for name, value in scores.items():
                sums[name] = sums.get(name, 0) + value
            count += 1
    model.train()
    means = {n: (ranks.total(v) / count / ranks.count).item() for n, v in sums.items()}
    error, frames = ranks.total(decoded.to(device)).tolist()
    return means | ({"depth_error": error / frames} if frames else {}), view


def _scores(
    model: QDepthVLA, batch: Batch, noise: Tensor
) -> tuple[dict[str, Tensor], Tensor | None]:
    """Figures of one batch, and what the depth head said."""
    valid = batch.action_valid_BC[..., None].expand_as(batch.actions_BCA)
    error = (model.sample(batch, noise).float() - batch.actions_BCA)[valid].abs()
    shuffled = model.sample(with_other_text(batch), noise).float()
    other = (shuffled - batch.actions_BCA)[valid].abs()
    scores = {"action_mse": error.square().mean(), "action_mse_shuffled": other.square().mean()}
    scores |= {f"action_within_{t}": (error <= t).float().mean() for t in THRESHOLDS}
    losses = None
    if model.config.depth.supervised:
        losses = model(batch, noise, torch.full((len(batch),), 0.5, device=noise.device))
        scores["depth"] = losses.depth
        if model.config.depth.target == "codes":
            scores["depth_top1"] = top1(losses.depth_predicted, batch)
    return scores, losses and losses.depth_predicted


def with_other_text(batch: Batch) -> Batch:
    """Every sample with its neighbour's instruction."""
    names = ("text_BL", "text_valid_BL")
    return replace(batch, **{name: getattr(batch, name).roll(1, dims=0) for name in names})


def top1(predicted_BMKN: Tensor, batch: Batch) -> Tensor:
    """Share of code positions whose likeliest code is the true one."""
    right_BM = (predicted_BMKN.argmax(dim=-1) == batch.depth_BMK).float().mean(dim=-1)
    return (right_BM * batch.depth_valid_BM).sum() / batch.depth_valid_BM.sum().clamp(min=1)
