"""The depth head: equation 3 as one product, its start, and that it can learn."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from depthtok.errors import ConfigError, WeightsError
from tests.vla import fakes
from vla.config import DepthConfig
from vla.evaluation.depth_expert import evaluate_depth
from vla.model.depth_head import DepthHead, depth_loss
from vla.model.model import build

B, M, GRID, WIDTH = 4, 2, 4, 24


def head(codebook, **settings):
    torch.manual_seed(0)
    codes, dim = codebook.shape
    config = DepthConfig(codes=codes, code_dim=dim, grid=GRID, cameras=M, **settings)
    depth_head = DepthHead(config, WIDTH, image_grid=GRID)
    depth_head.set_codebook(codebook)
    return depth_head


def codebooks():
    generator = torch.Generator().manual_seed(3)
    plain = torch.randn(256, 160, generator=generator)
    line = torch.linspace(-3, 3, 256)[:, None] * torch.randn(1, 160, generator=generator)
    return {
        "unit": plain,
        "tiny": plain * 1e-3,
        "huge": plain * 50,
        "off-centre": plain * 0.3 + 4,
        "a line": line + 0.05 * plain,
        "few dimensions": torch.randn(256, 4, generator=generator),
    }


@pytest.mark.parametrize("name", list(codebooks()))
def test_first_cross_entropy_is_near_ln_k(name):
    """Whatever the codebook's scale and shape."""
    depth_head = head(codebooks()[name])
    x = torch.randn(B, M * GRID**2, WIDTH)
    target = torch.randint(0, 256, (B, M, GRID**2))
    loss = depth_loss(
        depth_head.config,
        depth_head(x),
        target,
        torch.ones(B, M, dtype=torch.bool),
        depth_head.codebook_KD,
    )
    assert loss.item() == pytest.approx(math.log(256), rel=0.1)


def test_a_prior_starts_from_the_best_answer_that_does_not_look():
    """The first loss is the entropy of the codes at each position, and not ln K."""
    generator = torch.Generator().manual_seed(5)
    favourites = torch.randint(0, 256, (M, GRID**2, 3), generator=generator)
    picks = torch.randint(0, 3, (4000, M, GRID**2, 1), generator=generator)
    codes = favourites.expand(4000, -1, -1, -1).gather(-1, picks)[..., 0]
    counts = F.one_hot(codes, 256).sum(dim=0)
    depth_head = head(codebooks()["unit"], prior=True)
    x = torch.randn(B, M * GRID**2, WIDTH)
    assert torch.equal(depth_head(x), head(codebooks()["unit"])(x))  # no counts yet: as without
    depth_head.set_prior(counts)
    valid = torch.ones(B, M, dtype=torch.bool)
    loss = depth_loss(depth_head.config, depth_head(x), codes[:B], valid, depth_head.codebook_KD)
    assert loss.item() == pytest.approx(math.log(3), rel=0.15)
    assert torch.isfinite(depth_head.log_prior_MPK).all()
    assert depth_head.log_prior_MPK.exp().sum(-1) == pytest.approx(torch.ones(M, GRID**2), abs=1e-4)
    with pytest.raises(ConfigError, match=r"needs depth\.target = 'codes'"):
        DepthConfig(prior=True, target="latents")


def test_equals_equation_3():
    """-|x - c|^2 * s up to what is the same for all codes."""
    depth_head = head(codebooks()["off-centre"], temperature=7.0)
    x = torch.randn(B, M * GRID**2, WIDTH)
    logits = depth_head(x)
    spread = (depth_head.codebook_KD - depth_head.codebook_KD.mean(0)).square().mean().sqrt()
    vectors = depth_head.vectors(x) * spread + depth_head.codebook_KD.mean(0)
    distances = -torch.cdist(vectors.flatten(0, 2), depth_head.codebook_KD).square() / 7.0
    expected = distances.log_softmax(dim=-1)
    assert torch.allclose(logits.flatten(0, 2).log_softmax(-1), expected, atol=2e-3)


def test_only_the_learnable_scale_lets_a_perfect_prediction_win():
    """x = its code: about 3 nats at the starting scale, none at a larger one."""
    depth_head = head(codebooks()["unit"])
    x = depth_head.codebook_KD[None, None]
    target = torch.arange(256)
    costs = []
    for factor in (1, 10):
        scale = depth_head.log_scale.exp() * factor
        logits = (2 * x @ depth_head.codebook_KD.T - depth_head.codebook_KD.square().sum(1)) * scale
        costs.append(F.cross_entropy(logits[0, 0], target).item())
    assert costs[0] > 2
    assert costs[1] < 0.01
    assert depth_head.log_scale.requires_grad
    assert not head(codebooks()["unit"], temperature=5.0).log_scale.requires_grad


def test_cells_keep_their_place():
    """Token (y, x) of camera m decides the codes at its place, and at doubled grids around it."""
    for zoom in (1, 2):
        config = DepthConfig(codes=16, code_dim=6, grid=GRID * zoom, cameras=M)
        torch.manual_seed(0)
        depth_head = DepthHead(config, WIDTH, image_grid=GRID)
        depth_head.set_codebook(torch.randn(16, 6))
        x = torch.randn(1, M, GRID, GRID, WIDTH)
        changed = x.clone()
        changed[0, 1, 2, 3] += 1
        a, b = (depth_head.vectors(v.reshape(1, -1, WIDTH)) for v in (x, changed))
        moved = (a != b).any(dim=-1).reshape(M, GRID * zoom, GRID * zoom)
        assert not moved[0].any()
        rows, columns = np.nonzero(moved[1].numpy())
        assert rows.min() >= 2 * zoom - 1
        assert rows.max() <= 3 * zoom
        assert columns.min() >= 3 * zoom - 1


def test_frames_without_codes_do_not_count():
    depth_head = head(codebooks()["unit"])
    logits = torch.randn(2, M, GRID**2, 256)
    target = torch.randint(0, 256, (2, M, GRID**2))
    valid = torch.tensor([[True, False], [False, False]])
    only = F.cross_entropy(logits[0, 0], target[0, 0])
    loss = depth_loss(depth_head.config, logits, target, valid, depth_head.codebook_KD)
    assert loss.item() == pytest.approx(only.item())
    assert (
        depth_loss(depth_head.config, logits, target, valid & False, depth_head.codebook_KD).item()
        == 0
    )


def test_latents_target_the_codes_own_vectors():
    config = DepthConfig(target="latents", codes=16, code_dim=6, grid=GRID, cameras=M)
    codebook = torch.randn(16, 6)
    target = torch.randint(0, 16, (B, M, GRID**2))
    valid = torch.ones(B, M, dtype=torch.bool)
    assert depth_loss(config, codebook[target], target, valid, codebook).item() == 0
    assert depth_loss(
        config, codebook[target] + 2, target, valid, codebook
    ).item() == pytest.approx(4)


def test_another_codebook_shape_is_refused():
    depth_head = head(codebooks()["unit"])
    with pytest.raises(WeightsError, match=r"\(128, 160\)"):
        depth_head.set_codebook(torch.randn(128, 160))


def test_bf16_logits_are_computed_in_float32():
    depth_head = head(codebooks()["unit"])
    x = torch.randn(B, M * GRID**2, WIDTH)
    with torch.autocast("cpu", torch.bfloat16):
        assert depth_head(x).dtype == torch.float32


@pytest.mark.parametrize("target", ["codes", "latents"])
def test_judging_is_of_the_first_camera_in_the_targets_own_loss(target):
    """An oracle that is right in the first camera and silent in the second makes no error; the
    constant answer has the loss that the best one code distribution, or latent, has."""
    config = fakes.micro(model__depth__cameras=2, model__depth__target=target)
    data, depth = fakes.toy(config), config.model.depth
    oracle = DepthHead(depth, WIDTH, image_grid=GRID)
    oracle.set_codebook(torch.randn(16, 12))
    answers = 99 * torch.eye(16) if target == "codes" else oracle.codebook_KD

    def predict(part):
        part.depth_BMK[:, 1] = 0
        predicted = answers[part.depth_BMK.long()]
        part.depth_BMK[:, 1] = 7
        return predicted

    model = build(config.model, 0)
    model.depth_head, model.predict_depth = oracle, predict
    figures = evaluate_depth(model, data, 99, lambda codes: codes / np.float32(16), "cpu").figures
    assert (figures["frames"], figures["top1"], figures["error"]) == (len(data), 1, 0)
    assert figures["depth"] == pytest.approx(0, abs=1e-6)
    grids = [data.members[0].codes.grid_of(e.key, "main") for e in data.members[0].episodes._made]
    codes = torch.from_numpy(np.concatenate([grid.codes.reshape(-1, GRID**2) for grid in grids]))
    one_hot = F.one_hot(codes.long(), 16).float()
    if target == "codes":
        best = torch.distributions.Categorical(one_hot.mean(dim=0)).entropy().mean()
    else:
        best = (one_hot @ oracle.codebook_KD).var(dim=0, unbiased=False).mean()
    assert figures["constant_depth"] == pytest.approx(best.item(), rel=1e-4)
    with pytest.raises(ConfigError, match="`samples` cannot be 0"):
        evaluate_depth(model, data, 0, lambda codes: codes, "cpu")


def test_depth_of_a_camera_that_no_episode_has_cannot_be_judged():
    config = fakes.micro()
    data = fakes.toy(config)
    codes = data.members[0].codes
    codes.absent |= {(episode.key, "main") for episode in data.members[0].episodes._made}
    with pytest.raises(ConfigError, match="'main' has depth"):
        evaluate_depth(build(config.model, 0), data, 8, lambda codes: codes, "cpu")
