"""Validation of a model on held-out samples, overall and per episode."""

# B batch, M cameras with codes, S samples, F figures

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from depthtok.errors import TrainingError
from vla.data.dataset import Dataset, SampleOrder
from vla.data.loader import Loader
from vla.evaluation.depth_view import Decode, DepthView
from vla.model.batch import Batch
from vla.model.depth_head import depth_errors
from vla.model.model import QDepthVLA
from vla.training.parallel import Ranks

DECODED = 4
THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.5)  # in units of normalised actions
SEED = 20_240
TEXTS = 256  # episodes per data set that provide instructions of other tasks
Figures = dict[str, float]


@dataclass(frozen=True)
class Validation:
    """Figures over all samples and per held-out episode (by key; `samples` is the number of its
    samples), and some example frames."""

    means: Figures
    episodes: Mapping[str, Figures]
    view: DepthView | None


@torch.no_grad()
def validate(
    model: QDepthVLA,
    dataset: Dataset,
    share: int,
    samples: int,
    device: torch.device | str,
    ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
    decode: Decode | None = None,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Validation:
    """Evaluates the same `samples` samples with the same noise in every call, `share` at a time on
    each rank.

    `action_mse` and `action_within_*` compare sampled actions with the true ones, normalised;
    `action_mse_shuffled` does so with an instruction of another task: a model that uses its
    instruction does worse there. It is omitted if the data set has only one instruction.
    `depth_error` is the decoded error of the first `DECODED` samples of every batch, as a share of
    the range; those of the first batch are returned as images. Raises `TrainingError` for actions
    that are not finite.

    Within `autocast` is what the model computes: a training's own.
    """
    model.eval()
    batch = share * ranks.count
    batches = math.ceil(samples / batch)
    drawn = list(SampleOrder(len(dataset), SEED).draw(0, batches * batch))
    others = _OtherTexts.of(dataset)
    all_scores, view = [], None
    with Loader(
        dataset, batch, seed=SEED, rank=ranks.rank, ranks=ranks.count, threads=0, device=device
    ) as loader:
        for count, part in zip(range(batches), loader, strict=False):
            rows = range(count * batch, (count + 1) * batch)[ranks.rows(batch)]
            noise = torch.stack([_noise(row, part.actions_BCA.shape[1:]) for row in rows])
            reworded = others.instead(part, [drawn[row] for row in rows])
            scores, frames = _scores(model, part, reworded, noise.to(device), decode, autocast)
            view = view or frames
            all_scores.append(scores)
    model.train()
    table_SF, drawn = _gathered(all_scores, ranks, batch)[:samples], drawn[:samples]
    keys = [dataset.key(number, epoch) for epoch, number in drawn]
    names = list(all_scores[0])
    return Validation(_means(names, table_SF), _by_episode(names, keys, table_SF), view)


def _noise(sample: int, shape: Sequence[int]) -> Float[Tensor, "C A"]:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(SEED + sample))


@dataclass(frozen=True)
class _OtherTexts:
    """Instructions of other tasks, to replace the true ones."""

    dataset: Dataset
    instructions: Sequence[str]

    @classmethod
    def of(cls, dataset: Dataset) -> _OtherTexts:
        return cls(dataset, dataset.instructions(TEXTS))

    def instead(self, batch: Batch, places: Sequence[tuple[int, int]]) -> Batch | None:
        """The batch with another instruction for each sample; None if there is no other."""
        if len(self.instructions) < 2:
            return None
        texts, masks = [], []
        for epoch, number in places:
            true = self.dataset.instruction(number, epoch)
            wrong = [text for text in self.instructions if text != true]
            tokens, valid = self.dataset.tokens(wrong[number % len(wrong)])
            texts.append(torch.from_numpy(tokens))
            masks.append(torch.from_numpy(valid))
        text_BL, valid_BL = (torch.stack(x).to(batch.text_BL.device) for x in (texts, masks))
        return replace(batch, text_BL=text_BL, text_valid_BL=valid_BL)


def _gathered(
    all_scores: Sequence[Mapping[str, Float[Tensor, " B"]]], ranks: Ranks, batch: int
) -> Float[Tensor, "S F"]:
    """The figures of all ranks' samples as one table, in sample order."""
    rows_NBF = torch.stack([torch.stack(list(scores.values()), dim=1) for scores in all_scores])
    table_NBF = rows_NBF.new_zeros(len(all_scores), batch, rows_NBF.shape[-1])
    table_NBF[:, ranks.rows(batch)] = rows_NBF
    return ranks.total(table_NBF).flatten(0, 1).double().cpu()


def _means(names: Sequence[str], table_SF: Float[Tensor, "S F"]) -> Figures:
    """Means over the samples, weighted equally; a figure that no sample has is left out."""
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
    model: QDepthVLA,
    batch: Batch,
    reworded: Batch | None,
    noise: Tensor,
    decode: Decode | None,
    autocast: Callable[[], AbstractContextManager[object]],
) -> tuple[dict[str, Float[Tensor, " B"]], DepthView | None]:
    """Figures of every sample, NaN where it has none; and the frames decoded for them. `reworded`
    is the batch with other instructions, if there are any."""
    times = torch.full((len(batch),), 0.5, device=noise.device)
    with autocast():
        error = _error(model, batch, noise)
        errors = {"action_mse": error.square()}
        if reworded is not None:
            errors["action_mse_shuffled"] = _error(model, reworded, noise).square()
        supervised = model.config.depth.supervised
        predicted = model(batch, noise, times).depth_predicted if supervised else None
    errors |= {f"action_within_{t}": (error <= t).float() for t in THRESHOLDS}
    scores = {name: _over(x.mean(dim=-1), batch.action_valid_BC) for name, x in errors.items()}
    if predicted is None:
        return scores, None
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


def _error(model: QDepthVLA, batch: Batch, noise: Tensor) -> Float[Tensor, "B C A"]:
    """The errors of sampled actions."""
    actions = model.sample(batch, noise).float()
    if not actions.isfinite().all():
        raise TrainingError(
            "the model's actions are not finite",
            remedy="its training diverged: lower the learning rate, or clip gradients (train.clip)",
        )
    return (actions - batch.actions_BCA).abs()


def _over(values: Tensor, valid: Tensor) -> Float[Tensor, " B"]:
    """Means over each sample's valid actions or frames; NaN if it has none."""
    return (values * valid).sum(dim=1) / valid.sum(dim=1)


def top1(predicted_BMKN: Tensor, batch: Batch) -> Tensor:
    """Code accuracy: the share of positions whose most likely code is the true one."""
    right_BM = _hits(predicted_BMKN, batch)
    return (right_BM * batch.depth_valid_BM).sum() / batch.depth_valid_BM.sum().clamp(min=1)


def _hits(predicted_BMKN: Tensor, batch: Batch) -> Float[Tensor, "B M"]:
    return (predicted_BMKN.argmax(dim=-1) == batch.depth_BMK).float().mean(dim=-1)
