"""Soft targets: their numbers, that the head can answer them exactly, and what they bound."""

import math

import pytest
import torch
import torch.nn.functional as F

from depthtok.errors import ConfigError
from vla.config import Config, DepthConfig
from vla.model.depth_head import DepthHead
from vla.model.soft_targets import soft_targets, softening

LINE = torch.tensor([[0.0], [1.0], [3.0]])  # nearest codes at squared distances 1, 1 and 4


def test_the_true_code_has_the_stated_odds_over_its_nearest():
    """By hand: beta is 2 over the median, 1, of (1, 1, 4)."""
    rows = soft_targets(LINE, odds=2.0)
    assert (rows[0, 0] / rows[0, 1]).log().item() == pytest.approx(2, abs=1e-5)
    assert (rows[0, 0] / rows[0, 2]).log().item() == pytest.approx(2 * 9, abs=1e-4)
    assert (rows[1, 1] / rows[1, 2]).log().item() == pytest.approx(2 * 4, abs=1e-5)
    first = 1 / (1 + math.exp(-2) + math.exp(-18))
    assert rows[0, 0].item() == pytest.approx(first, rel=1e-6)
    assert torch.allclose(rows.sum(dim=1), torch.ones(3))


def test_codes_that_are_one_share_the_target():
    rows = soft_targets(torch.zeros(4, 2), odds=2.0)
    assert torch.allclose(rows, torch.full((4, 4), 0.25))


def test_hard_loss_and_softening_are_the_cross_entropy_to_soft_targets():
    generator = torch.Generator().manual_seed(2)
    codebook = torch.randn(16, 5, generator=generator)
    logits = 3 * torch.randn(2, 2, 4, 16, generator=generator)
    target = torch.randint(0, 16, (2, 2, 4), generator=generator)
    valid = torch.tensor([[True, False], [True, True]])
    shares = soft_targets(codebook, 1.5)[target]
    soft, hard = (
        F.cross_entropy(logits[valid].flatten(0, 1), wanted[valid].flatten(0, 1))
        for wanted in (shares, target)
    )
    extra = softening(1.5, logits, target, valid, codebook)
    assert (hard + extra).item() == pytest.approx(soft.item(), rel=1e-5)
    assert softening(1.5, logits, target, valid & False, codebook).item() == 0


def test_the_heads_best_answer_is_the_true_codes_vector_at_a_scale_that_stays():
    """x and s learnt freely: with soft targets they end at x = c_t and s = beta, with hard ones the
    logits go on growing."""
    generator = torch.Generator().manual_seed(4)
    codebook = torch.randn(12, 3, generator=generator).double()
    target, valid = torch.arange(12).view(1, 1, 12), torch.ones(1, 1, dtype=torch.bool)
    nearest = (torch.cdist(codebook, codebook) + 1e9 * torch.eye(12)).square().amin(dim=1).median()

    def learnt(odds):
        x = torch.zeros(12, 3, dtype=torch.float64, requires_grad=True)
        log_scale = torch.zeros((), dtype=torch.float64, requires_grad=True)
        chosen = torch.optim.LBFGS([x, log_scale], max_iter=200, line_search_fn="strong_wolfe")

        def loss():
            chosen.zero_grad()
            logits = (2 * x @ codebook.T - codebook.square().sum(dim=1)) * log_scale.exp()
            value = F.cross_entropy(logits, target.flatten())
            if odds:
                value = value + softening(odds, logits[None, None], target, valid, codebook)
            value.backward()
            return value

        chosen.step(loss)
        return x.detach(), log_scale.exp().item()

    x, scale = learnt(2.0)
    assert scale == pytest.approx(2.0 / nearest.item(), rel=0.01)
    assert torch.allclose(x, codebook, atol=0.02)
    hard_x, hard_scale = learnt(0.0)
    assert hard_scale * hard_x.norm() > 10 * scale * codebook.norm()


def test_hard_targets_are_the_default_and_odds_are_not_negative():
    assert Config().model.depth.target_odds == 0
    with pytest.raises(ConfigError, match=r"depth\.target_odds"):
        DepthConfig(target_odds=-1.0)


def test_a_start_is_near_its_least():
    """At the head's start, logits near 0: softening hard targets costs next to nothing."""
    torch.manual_seed(0)
    head = DepthHead(DepthConfig(codes=64, code_dim=8, grid=4), 24, image_grid=4)
    head.set_codebook(torch.randn(64, 8))
    logits = head(torch.randn(3, 16, 24))
    target, valid = torch.randint(0, 64, (3, 1, 16)), torch.ones(3, 1, dtype=torch.bool)
    assert abs(softening(2.0, logits, target, valid, head.codebook_KD).item()) < 0.1
