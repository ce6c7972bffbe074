"""Stitching windows into one clip: each is fitted to the clip so far, and overlaps are blended.

Relative depth is known up to scale and shift, which differ between windows. Two keyframes connect
them: the first frame of the clip, and slot 12 of the previous window (arXiv 2501.12375, section
3.2). Everything is done at the frames' own resolution.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from pipelines.depth.windows.plan import KEYFRAMES, OVERLAP, SECOND_KEY, TAIL, Window


def fit(
    prediction: Float[Tensor, "n H W"], target: Float[Tensor, "n H W"]
) -> Float64[Tensor, " 2"]:
    """Least-squares scale and shift from the prediction to the target, in float64.

    A constant prediction does not determine the scale and is left unchanged: (1, 0).
    """
    x, y = (depth.to(torch.float64, copy=True) for depth in (prediction, target))
    return fit_in_place(x, y)


def fit_in_place(x: Float64[Tensor, "n H W"], y: Float64[Tensor, "n H W"]) -> Float64[Tensor, " 2"]:
    """The same from `x` to `y`, whose memory it uses."""
    x_mean, y_mean = x.mean(), y.mean()
    x, y = x.sub_(x_mean), y.sub_(y_mean)
    covariance = y.mul_(x).mean()
    spread = x.square_().mean()
    scale = covariance / spread
    fitted = torch.stack((scale, y_mean - scale * x_mean))
    unchanged = torch.stack((torch.ones_like(scale), torch.zeros_like(scale)))
    return torch.where(spread > 0, fitted, unchanged)


class Stitcher:
    """The state of one clip between windows: a few depth maps, independent of clip length.

    `fitted` is the scale and shift of the last window that was added.
    """

    def __init__(self, *, align: bool) -> None:
        self.align = align
        self.fitted = torch.tensor((1.0, 0.0), dtype=torch.float64)
        self._first: Tensor | None = None  # slot 0 of window 0, never changed
        self._key: Tensor | None = None  # slot 12 of the previous window
        self._tail: Tensor | None = None  # slots 24 to 30 of the previous window

    def add(self, window: Window, depth: Float[Tensor, "n H W"]) -> Float[Tensor, "m H W"]:
        """Takes the depth of the window's needed slots; returns that of its final frames."""
        row = {slot: index for index, slot in enumerate(window.needed)}
        tail = self._tail
        if window.index == 0:
            self._first = depth[0].clone() if self.align else None
        else:
            depth = self._fit_to_clip(depth, row)
        if not window.last:
            self._key = depth[row[SECOND_KEY]].clone() if self.align else None
            self._tail = depth[row[TAIL] :].clone()
        if window.index == 0:
            return depth[: window.final[1]]
        assert tail is not None  # of window 0 at least
        return self._blend(window, depth, tail)

    def _fit_to_clip(self, depth: Float[Tensor, "n H W"], row: dict[int, int]) -> Tensor:
        if not self.align:
            return depth
        keys = [key for key in (self._first, self._key) if key is not None]
        self.fitted = fit(depth[row[0] : row[1] + 1], torch.stack(keys))
        scale, shift = self.fitted.to(depth.dtype)
        return (depth * scale + shift).clamp_min(0)

    def _blend(
        self, window: Window, depth: Float[Tensor, "n H W"], tail: Float[Tensor, "o H W"]
    ) -> Float[Tensor, "m H W"]:
        """Cross-fades from the previous window to this one over eight frames."""
        fresh = depth[KEYFRAMES if self.align else 0 :]  # from slot 3 on
        length = window.final[1] - window.final[0]
        out = depth.new_empty((length, *depth.shape[1:]))
        out[0] = tail[0]
        shared = min(OVERLAP - 2, length - 1)
        weight = torch.arange(1, shared + 1, device=depth.device) / (OVERLAP - 1)
        weight = weight.view(-1, 1, 1)
        out[1 : shared + 1] = (1 - weight) * tail[1 : shared + 1] + weight * fresh[:shared]
        out[shared + 1 :] = fresh[shared : length - 1]
        return out
