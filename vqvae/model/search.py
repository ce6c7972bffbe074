"""Nearest vectors and k-means, in exact float32.

The search never runs under autocast or TF32: in bfloat16 a fifth of the codes change.

Shapes: N latents, D channels, K codes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional


@contextlib.contextmanager
def exact_float32(device: torch.device) -> Iterator[None]:
    """Within the block float32 is exact: no autocast on any device, no TF32."""
    with torch.autocast(device.type, enabled=False):
        if device.type != "cuda":
            yield
            return
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            with torch.backends.cudnn.flags(
                enabled=True, benchmark=False, deterministic=True, allow_tf32=False
            ):
                yield
        finally:
            torch.set_float32_matmul_precision(before)


def distances(
    latents_ND: Float[Tensor, "N D"], vectors_KD: Float[Tensor, "K D"]
) -> Float[Tensor, "N K"]:
    """Squared distances minus each latent's own square (which does not affect comparisons)."""
    with exact_float32(latents_ND.device):
        vectors = vectors_KD.float()
        return torch.addmm(vectors.square().sum(1), latents_ND.float(), vectors.T, alpha=-2)


def nearest(
    latents_ND: Float[Tensor, "N D"], vectors_KD: Float[Tensor, "K D"]
) -> Int64[Tensor, " N"]:
    """The nearest vector of each latent; the lowest index wins ties."""
    table = distances(latents_ND, vectors_KD).detach()
    if table.device.type == "cpu":  # numpy's argmin is nine times faster than torch's
        return torch.from_numpy(table.numpy().argmin(axis=1))
    return table.argmin(dim=1)


def kmeans(
    samples_ND: Float[Tensor, "N D"], codes: int, iterations: int, seed: int
) -> Float[Tensor, "K D"]:
    """Lloyd's k-means from random samples; an empty cluster takes the sample farthest from its
    centre, so that the number of centres is always `codes`."""
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(samples_ND), generator=draw).to(samples_ND.device)
    centres = deal(samples_ND[order], codes).clone()
    for _ in range(iterations):
        assigned = nearest(samples_ND, centres)
        count, total = sum_by_code(samples_ND, assigned, codes)
        centres = torch.where(count[:, None] > 0, total / count.clamp_min(1)[:, None], centres)
        empty = (count == 0).nonzero().flatten()
        far = (samples_ND - centres[assigned]).square().sum(1).argsort(descending=True)
        if len(empty):
            centres[empty] = deal(samples_ND[far], len(empty))
    return centres


def sum_by_code(
    flat_ND: Float[Tensor, "N D"], codes_N: Int64[Tensor, " N"], number: int
) -> tuple[Float[Tensor, " K"], Float[Tensor, "K D"]]:
    """The number and the sum of the latents of each code. Uses a one-hot product, because
    scatter-adds on CUDA depend on thread order."""
    hot = functional.one_hot(codes_N, number).to(flat_ND.dtype)
    with exact_float32(flat_ND.device):
        return hot.sum(0), hot.T @ flat_ND


def deal(rows: Float[Tensor, "n D"], number: int) -> Float[Tensor, "m D"]:
    """`number` rows, repeated if there are too few."""
    return rows[torch.arange(number, device=rows.device) % len(rows)]
