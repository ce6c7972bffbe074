"""Losses for video depth (arXiv 2501.12375, section 3.3; the affine-invariant one follows MiDaS,
arXiv 1907.01341).

Letters: B windows, T frames. A pixel without true depth has `valid` False and is ignored.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

STATIC = 0.05  # share of the target's spread; larger changes over time are motion, and ignored


def normalised(
    values: Float[Tensor, "B T H W"], valid: Bool[Tensor, "B T H W"]
) -> Float[Tensor, "B T H W"]:
    """Each window minus its median, divided by its mean absolute deviation: affine-invariant."""
    shape, count = (-1, 1, 1, 1), valid.flatten(1).sum(1).clamp_min(1)
    hidden = values.masked_fill(~valid, torch.nan).flatten(1)
    centre = hidden.nanmedian(dim=1).values.nan_to_num(0)  # 0 if nothing is valid
    moved = (values - centre.view(shape)).masked_fill(~valid, 0)
    spread = moved.abs().flatten(1).sum(1) / count
    return moved / (spread.view(shape) + 1e-6)


def mean_where(values: Float[Tensor, "*shape"], where: Bool[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """The mean of the values inside the mask `where`; 0 if it is empty."""
    return (values * where).sum() / where.sum().clamp_min(1)


def affine_invariant_loss(
    prediction: Float[Tensor, "B T H W"],
    target: Float[Tensor, "B T H W"],
    valid: Bool[Tensor, "B T H W"],
) -> Float[Tensor, ""]:
    """Mean absolute difference after one scale and shift per window, not per frame, so that drift
    within the window is penalised."""
    return mean_where((normalised(prediction, valid) - normalised(target, valid)).abs(), valid)


def temporal_gradient_loss(
    prediction: Float[Tensor, "B T H W"],
    target: Float[Tensor, "B T H W"],
    valid: Bool[Tensor, "B T H W"],
) -> Float[Tensor, ""]:
    """Penalises changes over time that differ from the truth's, where that is nearly static."""
    change, true_change = (
        normalised(values, valid).diff(dim=1).abs() for values in (prediction, target)
    )
    still = valid[:, 1:] & valid[:, :-1] & (true_change < STATIC)
    return mean_where((change - true_change).abs(), still)


def metric_loss(
    prediction: Float[Tensor, "B T H W"],
    target: Float[Tensor, "B T H W"],
    valid: Bool[Tensor, "B T H W"],
) -> Float[Tensor, ""]:
    """Mean absolute error in metres, divided by the mean depth."""
    error, depth = mean_where((prediction - target).abs(), valid), mean_where(target, valid)
    return error / depth.clamp_min(1e-3)
