"""Targets of the depth loss, softened over the codes that are near the true one.

Logits are s (2 x.c_k - |c_k|^2). With hard targets the loss on frames that are learnt from falls
as long as logits grow, by s and by |x|; on other frames, where the best answer is often a
neighbour of the true code, every such growth costs. A bound on s alone leaves |x| to grow. Targets
q(k | t) ~ exp(-beta |c_t - c_k|^2) have their best answer within the head's reach, x = c_t and
s = beta: there the growth ends.
"""

# B batch, M cameras with codes, P code positions of a camera, K codes, D code width

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor


def soft_targets(codebook_KD: Float[Tensor, "K D"], odds: float) -> Float[Tensor, "K K"]:
    """Row t: the target distribution where t is the true code. beta is such that a code at the
    median distance of nearest codes has `odds` nats less than t."""
    squares_KK = torch.cdist(codebook_KD, codebook_KD).square()
    themselves = torch.eye(len(squares_KK), dtype=torch.bool, device=squares_KK.device)
    others_KK = squares_KK.masked_fill(themselves, torch.inf)
    nearest = others_KK.amin(dim=1).median().clamp(min=torch.finfo(squares_KK.dtype).tiny)
    return (-odds / nearest * squares_KK.masked_fill(themselves, 0)).softmax(dim=1)


def softening(
    odds: float,
    logits_BMPK: Float[Tensor, "B M P K"],
    target_BMP: Integer[Tensor, "B M P"],
    valid_BM: Bool[Tensor, "B M"],
    codebook_KD: Float[Tensor, "K D"],
) -> Float[Tensor, ""]:
    """The cross-entropy to soft targets minus that to the true codes: by how much the true code's
    logit stands above the mean that the soft target takes. A mean over the frames that have codes.
    """
    target_BMP = target_BMP.long()
    shares_BMPK = soft_targets(codebook_KD.to(logits_BMPK), odds)[target_BMP]
    true_BMP = logits_BMPK.gather(-1, target_BMP[..., None])[..., 0]
    above_BM = (true_BMP - (shares_BMPK * logits_BMPK).sum(dim=-1)).mean(dim=-1)
    return (above_BM * valid_BM).sum() / valid_BM.sum().clamp(min=1)
