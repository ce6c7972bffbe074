"""Losses for video depth (arXiv 2501.12375, section 3.3; the affine-invariant one after MiDaS,
arXiv 1907.01341).

Letters: B windows, T frames. A pixel without true depth has `valid` False and counts nowhere.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

STATIC = 0.05  # of the target's spread: a larger change in time is motion, and not compared


def normalised(
    values: Float[Tensor, "B T H W"], valid: Bool[Tensor, "B T H W"]
) -> Float[Tensor, "B T H W"]:
    """Each window less its median, over its mean absolute deviation: free of scale and shift."""
    shape, count = (-1, 1, 1, 1), valid.flatten(1).sum(1).clamp_min(1)
    hidden = values.masked_fill(~valid, torch.nan).flatten(1)
    centre = hidden.nanmedian(dim=1).values.nan_to_num(0)  # nothing valid, nothing to centre
    moved = (values - centre.view(shape)).masked_fill(~valid, 0)
    spread = moved.abs().flatten(1).sum(1) / count
    return moved / (spread.view(shape) + 1e-6)


def mean_where(values: Float[Tensor, "*shape"], where: Bool[Tensor, "*shape"]) -> Tensor:
    """The mean over some of the values; 0 where there is none."""
    return (values * where).sum() / where.sum().clamp_min(1)


def affine_invariant_loss(
    prediction: Float[Tensor, "B T H W"],
    target: Float[Tensor, "B T H W"],
    valid: Bool[Tensor, "B T H W"],
) -> Float[Tensor, ""]:
    """Mean absolute difference after one scale and shift for each window, not for each frame:
    a depth that drifts through the window costs."""
    return mean_where((normalised(prediction, valid) - normalised(target, valid)).abs(), valid)


def temporal_gradient_loss(
    prediction: Float[Tensor, "B T H W"],
    target: Float[Tensor, "B T H W"],
    valid: Bool[Tensor, "B T H W"],
) -> Float[Tensor, ""]:
    """Changes from frame to frame should be as large as the truth's, where that is nearly still."""
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
    """Mean absolute error in metres, over the mean depth."""
    return mean_where((prediction - target).abs(), valid) / mean_where(target, valid).clamp_min(
        1e-3
    )
