"""The reconstruction loss: L1 on normalised disparity and on its differences between neighbours."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor


def reconstruction(
    predicted: Float[Tensor, "B 1 H W"],
    true: Float[Tensor, "B 1 H W"],
    valid: Bool[Tensor, "B 1 H W"],
    gradient_weight: float,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """The loss, and its L1 term alone. Invalid pixels and their differences are ignored."""
    error = predicted - true
    l1 = _mean(error.abs(), valid)
    down = _mean(
        (error[..., 1:, :] - error[..., :-1, :]).abs(), valid[..., 1:, :] & valid[..., :-1, :]
    )
    right = _mean((error[..., 1:] - error[..., :-1]).abs(), valid[..., 1:] & valid[..., :-1])
    return l1 + gradient_weight * (down + right), l1


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    mask = mask.to(values.dtype)
    return (values * mask).sum() / mask.sum().clamp_min(1)
