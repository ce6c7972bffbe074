"""How good a model is on samples that it does not train on, and on each of their episodes."""

# B batch, M cameras with codes, S samples, F figures

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from vla.batch import Batch
from vla.data import Dataset, Stream
from vla.depth_head import depth_errors
from vla.depth_view import Decode, DepthView
from vla.loader import Loader
from vla.model import QDepthVLA
from vla.parallel import Ranks

DECODED = 4
THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.5)  # of normalised actions
SEED = 20_240
Figures = dict[str, float]


@dataclass(frozen=True)
class Judgement:
    """Figures over all samples, and over those of each held-out episode (by key), among them how
    many `samples` it gave; some frames to look at."""

    means: Figures
    episodes: Mapping[str, Figures]
    view: DepthView | None


@torch.no_grad()
def validate(
    model: QDepthVLA,
    dataset: Dataset,
    share: int,
    batches: int,
    device: torch.device | str,
    ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
    decode: Decode | None = None,
) -> Judgement:
    """Judges `batches` fixed batches of `share` samples a rank, with fixed noise: the same samples
    whenever called.

    `action_mse` and `action_within_*` compare sampled actions with the true ones, normalised;
    `action_mse_shuffled` does so under another sample's instruction: a model that reads its
    instruction is worse there. `depth_error` is that of the first `DECODED` samples of every batch
    after decoding, as a share of the range; those of the first batch come back as pictures.
    """
    model.eval()
    batch = share * ranks.count
    own, view = [], None
    with Loader(
        dataset, batch, seed=SEED, rank=ranks.rank, ranks=ranks.count, workers=0, device=device
    ) as loader:
        for count, part in zip(range(batches), loader, strict=False):
            generator = torch.Generator().manual_seed(SEED + count)
            noise = torch.randn(batch, *part.actions_BCA.shape[1:], generator=generator)
            scores, shown = _scores(model, part, noise[ranks.rows(batch)].to(device), decode)
            view = view or shown
            own.append(scores)
    model.train()
    table_SF = _gathered(own, ranks, batch)
    drawn = Stream(len(dataset), SEED).draw(0, len(table_SF))
    keys = [dataset.key(number, epoch) for epoch, number in drawn]
    names = list(own[0])
    return Judgement(_means(names, table_SF), _by_episode(names, keys, table_SF), view)


def _gathered(
    own: Sequence[Mapping[str, Float[Tensor, " B"]]], ranks: Ranks, batch: int
) -> Float[Tensor, "S F"]:
    """Every rank's figures of its own samples as one table, in the order of the samples."""
    rows_NBF = torch.stack([torch.stack(list(scores.values()), dim=1) for scores in own])
    table_NBF = rows_NBF.new_zeros(len(own), batch, rows_NBF.shape[-1])
    table_NBF[:, ranks.rows(batch)] = rows_NBF
    return ranks.total(table_NBF).flatten(0, 1).double().cpu()


def _means(names: Sequence[str], table_SF: Float[Tensor, "S F"]) -> Figures:
    """Every sample counts alike; a figure that none of them has is left out."""
    means = table_SF.nanmean(dim=0).tolist()
    return {name: mean for name, mean in zip(names, means, strict=True) if mean == mean}


def _by_episode(
    names: Sequence[str], keys: Sequence[str], table_SF: Float[Tensor, "S F"]
) -> dict[str, Figures]:
    rows: dict[str, list[int]] = defaultdict(list)
    for row, key in enumerate(keys):
        rows[key].append(row)
    return {
        key: {"samples": len(rows[key]), **_means(names, table_SF[rows[key]])}
        for key in sorted(rows)
    }


def _scores(
    model: QDepthVLA, batch: Batch, noise: Tensor, decode: Decode | None
) -> tuple[dict[str, Float[Tensor, " B"]], DepthView | None]:
    """Figures of every sample, NaN where it has none; and frames that were decoded for them."""
    error = (model.sample(batch, noise).float() - batch.actions_BCA).abs()
    shuffled = model.sample(with_other_text(batch), noise).float()
    found = {
        "action_mse": error.square(),
        "action_mse_shuffled": (shuffled - batch.actions_BCA).square(),
        **{f"action_within_{t}": (error <= t).float() for t in THRESHOLDS},
    }
    scores = {name: _over(x.mean(dim=-1), batch.action_valid_BC) for name, x in found.items()}
    if not model.config.depth.supervised:
        return scores, None
    times = torch.full((len(batch),), 0.5, device=noise.device)
    predicted = model(batch, noise, times).depth_predicted
    head, valid_BM = model.depth_head, batch.depth_valid_BM
    errors_BM = depth_errors(head.config, predicted, batch.depth_BMK, head.codebook_KD)
    scores["depth"] = _over(errors_BM, valid_BM)
    if head.config.target == "codes":
        scores["depth_top1"] = _over(_hits(predicted, batch), valid_BM)
    view = DepthView.of(head, batch, predicted, decode, DECODED)
    if decode is not None or head.config.target == "pixels":
        scores["depth_error"] = torch.full_like(scores["depth"], torch.nan)
    if view is not None:
        rows = valid_BM[:, 0].nonzero()[:DECODED, 0]
        scores["depth_error"][rows] = torch.from_numpy(view.errors()).to(scores["depth"])
    return scores, view


def _over(values: Tensor, valid: Tensor) -> Float[Tensor, " B"]:
    """Means over a sample's actions, or frames, that are there; NaN where none is."""
    return (values * valid).sum(dim=1) / valid.sum(dim=1)


def with_other_text(batch: Batch) -> Batch:
    """Every sample with its neighbour's instruction."""
    names = ("text_BL", "text_valid_BL")
    return replace(batch, **{name: getattr(batch, name).roll(1, dims=0) for name in names})


def top1(predicted_BMKN: Tensor, batch: Batch) -> Tensor:
    """Share of code positions whose likeliest code is the true one."""
    right_BM = _hits(predicted_BMKN, batch)
    return (right_BM * batch.depth_valid_BM).sum() / batch.depth_valid_BM.sum().clamp(min=1)


def _hits(predicted_BMKN: Tensor, batch: Batch) -> Float[Tensor, "B M"]:
    return (predicted_BMKN.argmax(dim=-1) == batch.depth_BMK).float().mean(dim=-1)
