import os

import numpy as np
import pytest
import torch

from depthtok.data import DepthKind
from depthtok.errors import ConfigError, CorruptPart, SourceError, StaleStore
from pipelines.depth.learning.batch import training_batch
from pipelines.depth.learning.finetune import FinetuneConfig, finetune, schedule, training_target
from pipelines.depth.learning.losses import (
    affine_invariant_loss,
    metric_loss,
    temporal_gradient_loss,
)
from tests.pipelines.depth.vida import recipe
from tests.pipelines.depth.vida.made import MemoryClip, learner

CPU = torch.device("cpu")


def clips():
    """Two clips whose depth (m) follows their brightness; some pixels have none."""
    true_clips = []
    for seed in (1, 2):
        frames = recipe.clip(7, 14, 14, seed)
        depth = 0.5 + frames.mean(-1, dtype=np.float32) / 255
        depth[:, :3, :3] = 0
        true_clips.append(MemoryClip(frames, depth.astype(np.float32)))
    return true_clips


def config(**changes):
    settings = {"steps": 6, "batch": 2, "frames": 4, "input_size": 14, "save_every": 2}
    return FinetuneConfig(learning_rate=3e-3, **(settings | changes))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", float("nan")),
        ("learning_rate", -1.0),
        ("learning_rate", 0.0),
        ("learning_rate", float("inf")),
        ("temporal_weight", float("nan")),
        ("temporal_weight", -1.0),
        ("weight_decay", float("nan")),
        ("input_size", -5),
        ("seed", -1),
    ],
)
def test_settings_that_mean_nothing_are_refused(name, value):
    with pytest.raises(ConfigError, match=f"`{name}` cannot be"):
        FinetuneConfig(**{name: value})
    FinetuneConfig(temporal_weight=0.0, weight_decay=0.0)


def test_affine_invariant_loss_ignores_scale_and_shift_and_invalid_pixels():
    target = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) + 1
    valid = torch.ones_like(target, dtype=torch.bool)
    valid[:, :, 0] = False
    prediction = 3 * target + 2
    prediction[:, :, 0] = 1e6
    assert affine_invariant_loss(prediction, target, valid) < 1e-5
    assert affine_invariant_loss(-target, target, valid) > 1
    assert temporal_gradient_loss(prediction, target, valid) < 1e-5


def test_temporal_loss_sees_flicker_on_a_still_scene():
    still = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)).expand(1, 4, 8, 8)
    valid = torch.ones_like(still, dtype=torch.bool)
    flicker = still + 0.5 * torch.tensor([0.0, 1, 0, 1]).view(1, 4, 1, 1)
    assert temporal_gradient_loss(still, still, valid) == 0
    assert temporal_gradient_loss(flicker, still, valid) > 0.1


def test_losses_of_a_window_without_truth_are_zero_and_so_is_their_gradient():
    prediction = torch.rand(1, 2, 4, 4, requires_grad=True)
    nothing = torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    for loss in (affine_invariant_loss, temporal_gradient_loss, metric_loss):
        value = loss(prediction, torch.zeros(1, 2, 4, 4), nothing)
        (gradient,) = torch.autograd.grad(value, prediction)
        assert value == 0
        assert not gradient.any()


def test_target_is_disparity_or_metres_and_keeps_holes():
    depth = torch.tensor([[[[2.0, 0.0], [4.0, 1.0]]]])
    disparity, valid = training_target(depth, DepthKind.DISPARITY)
    assert disparity.tolist() == [[[[0.5, 0.0], [0.25, 1.0]]]]
    assert valid.tolist() == [[[[True, False], [True, True]]]]
    for kind in (DepthKind.METRES, DepthKind.RELATIVE_DEPTH):
        assert training_target(depth, kind)[0].equal(depth)


@pytest.mark.parametrize("metric", [False, True])
def test_training_lowers_the_loss(tmp_path, metric):
    losses = []
    finetune(
        learner(metric=metric),
        clips()[:1],
        config(steps=20, save_every=100),
        checkpoint=tmp_path / "run.pt",
        device=CPU,
        on_step=lambda report: losses.append(report.loss),
    )
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_a_resumed_run_ends_with_the_same_weights(tmp_path):
    undisturbed = finetune(learner(), clips(), config(), checkpoint=tmp_path / "a", device=CPU)

    class Stop(Exception):
        pass

    def stop(report):
        if report.step == 3:
            raise Stop

    with pytest.raises(Stop):
        finetune(learner(), clips(), config(), checkpoint=tmp_path / "b", device=CPU, on_step=stop)
    steps = []
    resumed = finetune(
        learner(),
        clips(),
        config(),
        checkpoint=tmp_path / "b",
        device=CPU,
        on_step=lambda report: steps.append(report.step),
    )
    assert steps == [2, 3, 4, 5]
    for key, value in undisturbed.state_dict().items():
        assert value.equal(resumed.state_dict()[key]), key


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    finetune(learner(), clips(), config(steps=1), checkpoint=tmp_path / "a", device=CPU)
    with pytest.raises(StaleStore, match="seed 0, now 7"):
        finetune(
            learner(),
            clips(),
            config(steps=1, seed=7),
            checkpoint=tmp_path / "a",
            device=CPU,
        )


def test_a_changed_checkpoint_is_never_gone_on_with(tmp_path):
    file = tmp_path / "a"
    finetune(learner(), clips(), config(steps=1), checkpoint=file, device=CPU)
    data, rng = file.read_bytes(), np.random.default_rng(14)
    count = 20 * int(os.environ.get("DEPTHTOK_DAMAGES", "1"))
    flips = [(at, 1 << bit) for at, bit in rng.integers((len(data), 8), size=(count, 2))]
    for change in [bytes(data[: len(data) // 2]), b"", b"x" * 99, data + b"\0"] + [
        data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :] for at, bit in flips
    ]:
        file.write_bytes(change)
        with pytest.raises(CorruptPart, match="was changed after it was written"):
            finetune(learner(), clips(), config(steps=1), checkpoint=file, device=CPU)


def test_a_checkpoint_of_an_older_version_is_gone_on_with_and_a_forged_one_refused(tmp_path):
    file = tmp_path / "a"
    finetune(learner(), clips(), config(steps=2), checkpoint=file, device=CPU)
    state = torch.load(file, weights_only=True)
    torch.save(state, file)  # without a digest
    finetune(
        learner(),
        clips(),
        config(steps=2),
        checkpoint=file,
        device=CPU,
        on_step=lambda report: pytest.fail("begins anew"),
    )
    for forged in (
        [],
        {},
        {**state, "network": {}},
        {**state, "identity": 5},
        {**state, "optimizer": {"state": 1}},
        {**state, "done": "x"},
    ):
        torch.save(forged, file)
        with pytest.raises(CorruptPart, match="holds no state of a fine-tuning"):
            finetune(learner(), clips(), config(steps=2), checkpoint=file, device=CPU)


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="2 to 32"):
        config(frames=33)
    assert schedule(0, 100) == pytest.approx(0.2)
    assert schedule(99, 100) < 0.01


def test_windows_are_mirrored_unless_told_not_to():
    frames = np.zeros((2, 14, 14, 3), np.uint8)
    frames[:, :, 7:] = 255  # bright on the right
    clip = MemoryClip(frames, np.ones((2, 14, 14), np.float32))

    def sides(*, mirror):
        settings = config(batch=1, frames=2, mirror=mirror)
        batches = (training_batch(learner(), [clip], settings, step).inputs for step in range(20))
        return {bool(batch[..., 7:].mean() > batch[..., :7].mean()) for batch in batches}

    assert sides(mirror=True) == {True, False}
    assert sides(mirror=False) == {True}


def test_frames_are_seen_as_in_inference_whatever_the_size_of_the_depth():
    frames = recipe.clip(3, 30, 40, seed=1)
    depth = np.full((3, 20, 20), 2, np.float32)  # a square store of a wide camera
    depth[:, :, 10:] = 0
    settings = config(batch=1, frames=3, input_size=28, mirror=False)
    windows = training_batch(learner(), [MemoryClip(frames, depth)], settings, step=0)
    images, target = windows.inputs, windows.depth
    assert windows.factors.tolist() == [[[[1.0]]]]
    assert images.shape == (1, 3, 3, 28, 42)
    assert target.shape == (1, 3, 28, 42)
    assert (target[..., :21] == 2).all()
    assert not target[..., 21:].any()
    other = MemoryClip(recipe.clip(3, 40, 30, seed=1), depth)
    clips = [MemoryClip(frames, depth), other]
    with pytest.raises(SourceError, match="different shapes"):
        training_batch(learner(), clips, config(batch=20, input_size=28), 0)
