"""The loop: exact resume, stop, overfit, and what it refuses."""

import json
import math
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import count

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from depthtok.disk.json_files import read_json_lines
from depthtok.errors import ConfigError, CorruptPart, StaleStore, TrainingError, WeightsError
from tests.vla import fakes
from vla.model.model import build
from vla.run_options import TrainingOptions
from vla.serving.policy import load_model
from vla.training import checkpoint, restoring
from vla.training.train import train
from vla.training.update import Update
from vla.training.validation import validate

QUIET = TrainingOptions(loader_threads=0, log_every=1, checkpoint_every=4)


def lines(run):
    """The log, without what the clock says."""
    clock = ("samples_per_s", "data_wait", "tflops", "mfu", "validate_s")
    read = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in clock} for line in read]


def same_tensors(a, b):
    a, b = load_file(a), load_file(b)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_resume_is_exact(micro, toy, codebook, tmp_path):
    config = micro(train__ema=0.9, data__photometric=0.2)
    data = toy(config)
    straight = train(config, data, tmp_path / "a", QUIET, codebook=codebook)
    assert straight.finished

    reports = []
    stopped = train(
        config,
        data,
        tmp_path / "b",
        QUIET,
        codebook=codebook,
        on_step=reports.append,
        should_stop=lambda: len(reports) == 3,
    )
    assert (stopped.step, stopped.finished) == (3, False)
    threads = replace(QUIET, loader_threads=2)
    resumed = train(config, data, tmp_path / "b", threads, codebook=codebook)
    assert resumed.step == 8
    assert lines(tmp_path / "a") == lines(tmp_path / "b")
    for name in ("model", "optimizer", "average"):
        last = f"checkpoints/step-000008/{name}.safetensors"
        assert same_tensors(tmp_path / "a" / last, tmp_path / "b" / last)


def test_a_crash_after_a_checkpoint_repeats_its_lines_once(micro, toy, codebook, tmp_path):
    config = micro()
    data = toy(config)

    def crash(line):
        if line["step"] == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, data, tmp_path, QUIET, codebook=codebook, on_step=crash)
    train(config, data, tmp_path, QUIET, codebook=codebook)
    assert [line["step"] for line in lines(tmp_path)] == list(range(1, 9))


def test_finished_runs_stay_as_they_are(micro, toy, codebook, tmp_path):
    config = micro(train__steps=2)
    train(config, toy(config), tmp_path, QUIET, codebook=codebook)
    before = (tmp_path / "metrics.jsonl").read_text()
    assert train(config, toy(config), tmp_path, QUIET, codebook=codebook).step == 2
    assert (tmp_path / "metrics.jsonl").read_text() == before


def test_other_settings_or_data_are_refused(micro, toy, codebook, tmp_path):
    config = micro(train__steps=1)
    train(config, toy(config), tmp_path, QUIET, codebook=codebook)
    other = micro(train__steps=1, train__lr=0.1)
    with pytest.raises(StaleStore, match=r"other settings: train\.lr\n"):
        train(other, toy(other), tmp_path, QUIET, codebook=codebook)
    with pytest.raises(StaleStore, match="other data"):
        train(config, toy(config, only=[0]), tmp_path, QUIET, codebook=codebook)


def test_micro_batches_change_nothing_but_rounding(micro, toy, codebook, tmp_path):
    config = micro(train__steps=3)
    for name, size in (("whole", 0), ("parts", 3)):
        options = replace(QUIET, micro_batch=size)
        train(config, toy(config), tmp_path / name, options, codebook=codebook)
    for a, b in zip(lines(tmp_path / "whole"), lines(tmp_path / "parts"), strict=True):
        assert a == pytest.approx(b, rel=1e-3)


def test_keep_last_checkpoints(micro, toy, codebook, tmp_path):
    config = micro(train__steps=5)
    options = replace(QUIET, checkpoint_every=1, keep_last=2)
    train(config, toy(config), tmp_path, options, codebook=codebook)
    names = [path.name for path in checkpoint.steps(tmp_path)]
    assert names == ["step-000004", "step-000005"]
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_overfits_both_losses(micro, toy, codebook, tmp_path):
    config = micro(
        train__steps=400,
        train__batch=16,
        train__schedule="constant",
        train__lr=4e-3,
        train__scale_lr=3e-2,
        model__depth__target_odds=0.0,  # soft targets end far above no loss
    )
    data = toy(config, fakes.FakeEpisodes(count=1, steps=19))
    assert len(data) == 16
    reports = [{"flow": 9.0, "depth": 9.0}]

    def learnt():
        return reports[-1]["depth"] < 0.1 and reports[-1]["flow"] < 0.25 * reports[1]["flow"]

    options = TrainingOptions(loader_threads=0, log_every=10)
    train(
        config,
        data,
        tmp_path,
        options,
        codebook=codebook,
        on_step=reports.append,
        should_stop=learnt,
    )
    assert learnt(), reports[-1]
    assert reports[-1]["depth_top1"] > 0.98


def test_beginning_anew_leaves_nothing_of_the_run_before(micro, toy, codebook, tmp_path):
    config, shorter = micro(train__steps=4), micro(train__steps=2)
    judged = replace(QUIET, validate_every=4, validate_batches=1, checkpoint_every=1)
    train(config, toy(config), tmp_path, judged, codebook=codebook, validation=toy(config))
    train(shorter, toy(shorter), tmp_path, replace(QUIET, resume=False), codebook=codebook)
    assert [path.name for path in checkpoint.steps(tmp_path)] == ["step-000002"]
    assert not (tmp_path / checkpoint.BEST).exists()
    assert [line["step"] for line in lines(tmp_path)] == [1, 2]


def test_whatever_is_due_is_done(micro, toy, codebook, tmp_path):
    """Judgements and gradient norms need no log line at the same step."""
    config = micro(train__steps=6)
    options = replace(
        QUIET,
        log_every=5,
        validate_every=2,
        validate_batches=1,
        grad_norms_every=3,
        checkpoint_every=100,
    )
    train(config, toy(config), tmp_path, options, codebook=codebook, validation=toy(config))
    by_step = {line["step"]: line for line in lines(tmp_path)}
    assert list(by_step) == [2, 3, 4, 5, 6]
    assert [step for step, line in by_step.items() if "val_depth" in line] == [2, 4, 6]
    assert [step for step, line in by_step.items() if "grad_flow" in line] == [3, 6]


def test_judged_and_kept_are_the_weights_that_act(micro, toy, codebook, tmp_path):
    """With an average it is that one; how it is split among micro-batches does not matter."""
    config = micro(train__steps=6, train__ema=0.5, train__lr=1e-2)
    data, by_kind = toy(config), {}
    for name, size in (("whole", 0), ("parts", 1)):
        options = replace(QUIET, validate_every=6, validate_batches=2, micro_batch=size)
        by_kind[name] = train(
            config, data, tmp_path / name, options, codebook=codebook, validation=data
        ).last
    assert by_kind["whole"]["val_action_mse"] == pytest.approx(
        by_kind["parts"]["val_action_mse"], 1e-3
    )
    for averaged in (True, False):
        model = load_model(tmp_path / "whole" / checkpoint.BEST, averaged=averaged)
        again = validate(model, data, 4, 8, "cpu").means["action_mse"]
        assert (again == pytest.approx(by_kind["whole"]["val_action_mse"])) == averaged


def test_a_training_in_bf16_is_judged_in_it(micro, toy, codebook, tmp_path):
    """And says how long that took."""
    options = replace(QUIET, validate_every=2, validate_batches=2)
    config = micro(train__steps=2, train__precision="bf16")
    last = train(config, toy(config), tmp_path, options, codebook=codebook, validation=toy(config))
    model, half = load_model(tmp_path / checkpoint.BEST), partial(torch.autocast, "cpu")
    again = [
        validate(model, toy(config), 4, 8, "cpu", autocast=way).means["action_mse"]
        for way in (partial(half, torch.bfloat16), partial(half, enabled=False), nullcontext)
    ]
    assert last.last["val_action_mse"] == again[0] != again[1] == again[2]
    assert last.last["validate_s"] > 0


def test_another_instruction_is_never_the_true_one(micro, toy, codebook, tmp_path):
    """One held-out episode has one instruction; the others come from the rest of its store."""
    config = micro(train__steps=1)
    options = replace(QUIET, validate_every=1, validate_batches=1)
    judge = toy(config, only=[1])
    last = train(config, toy(config), tmp_path, options, codebook=codebook, validation=judge).last
    assert last["val_action_mse_shuffled"] != last["val_action_mse"]
    alone = toy(config, fakes.FakeEpisodes(count=1))
    model = load_model(checkpoint.find(tmp_path))
    assert "action_mse_shuffled" not in validate(model, alone, 4, 4, "cpu").means


def test_a_diverged_training_stops_before_it_saves(micro, toy, codebook, tmp_path):
    config = micro(train__lr=1e9, train__clip=0, train__warmup=0)
    with pytest.raises(TrainingError, match="at step"):
        train(config, toy(config), tmp_path, replace(QUIET, checkpoint_every=1), codebook=codebook)
    weights = checkpoint.read_tensors(checkpoint.find(tmp_path), "model")
    assert len(checkpoint.steps(tmp_path)) < 8
    assert "nan" not in json.dumps([line["loss"] for line in lines(tmp_path)]).lower()
    assert weights


def test_a_gradient_that_is_not_finite_is_never_saved(micro, toy, codebook, tmp_path, monkeypatch):
    """The loss of that step is finite; only the weights after it are not."""
    backward = Update._backward

    def overflowing(self, part, step, *rest):
        sums = backward(self, part, step, *rest)
        if step == 3:
            next(iter(self.trained.values())).grad.view(-1)[0] = torch.inf
        return sums

    monkeypatch.setattr(Update, "_backward", overflowing)
    config, options = micro(train__steps=6), replace(QUIET, checkpoint_every=2)
    with pytest.raises(TrainingError, match=r"norm of the gradient is (inf|nan) at step 4"):
        train(config, toy(config), tmp_path, options, codebook=codebook)
    assert checkpoint.find(tmp_path).name == "step-000002"
    monkeypatch.undo()
    assert train(config, toy(config), tmp_path, options, codebook=codebook).finished


def test_a_log_that_was_cut_is_read_up_to_there(micro, toy, codebook, tmp_path):
    config = micro(train__steps=4)
    train(config, toy(config), tmp_path, QUIET, codebook=codebook)
    log = tmp_path / "metrics.jsonl"
    log.write_bytes(log.read_bytes()[:-9])
    assert [line["step"] for line in read_json_lines(log)] == [1, 2, 3]
    train(config, toy(config), tmp_path, QUIET, codebook=codebook)
    log.write_text("{" + log.read_text())
    with pytest.raises(CorruptPart, match="line 1 of"):
        read_json_lines(log)


def test_validation_is_logged(micro, toy, codebook, tmp_path):
    config = micro(train__steps=2)
    options = replace(QUIET, validate_every=2, validate_batches=2)
    data = toy(config)
    result = train(config, data, tmp_path, options, codebook=codebook, validation=data)
    assert {"val_action_mse", "val_action_within_0.05", "val_depth", "val_depth_top1"} <= set(
        result.last
    )
    assert "val_depth" not in lines(tmp_path)[0]


def test_gradient_norms_of_both_losses(micro, toy, codebook, tmp_path):
    config = micro(train__steps=2)
    options = replace(QUIET, grad_norms_every=2)
    line = train(config, toy(config), tmp_path, options, codebook=codebook).last
    assert line["grad_flow"] > 0
    assert line["grad_ratio"] == pytest.approx(line["grad_depth"] / line["grad_flow"])
    assert "grad_flow" not in lines(tmp_path)[0]


@pytest.mark.parametrize("way", [{"precision": "bf16"}, {"recompute": True}])
def test_other_ways_to_compute_the_same(micro, toy, codebook, tmp_path, way):
    """bf16 to its precision, recomputed activations to the bit."""
    plain, other = micro(train__steps=2), micro(train__steps=2)
    options = QUIET
    if "precision" in way:
        other = micro(train__steps=2, train__precision="bf16")
    else:
        options = replace(QUIET, recompute=True)
    train(plain, toy(plain), tmp_path / "a", QUIET, codebook=codebook)
    train(other, toy(other), tmp_path / "b", options, codebook=codebook)
    tolerance = {"rel": 0.05} if "precision" in way else {"rel": 0, "abs": 0}
    for a, b in zip(lines(tmp_path / "a"), lines(tmp_path / "b"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], **tolerance)


def test_pretrained_weights(micro, toy, codebook, tmp_path):
    """A start from another run keeps the codebook of this one; foreign tensors are refused."""
    config = micro(train__steps=1)
    train(config, toy(config), tmp_path / "a", QUIET, codebook=codebook)
    weights = checkpoint.read_tensors(checkpoint.find(tmp_path / "a"), "model")
    other = fakes.FakeCodebook(codes=16, dim=12, seed=5)
    still = micro(train__steps=1, train__lr=0.0, train__scale_lr=0.0)
    train(still, toy(still), tmp_path / "b", QUIET, codebook=other, weights=weights)
    after = checkpoint.read_tensors(checkpoint.find(tmp_path / "b"), "model")
    assert torch.equal(after["action.norm.weight"], weights["action.norm.weight"])
    assert torch.equal(after[restoring.CODEBOOK], torch.from_numpy(other.vectors))
    foreign = {"head.x": torch.zeros(1)}
    with pytest.raises(WeightsError, match="no such tensor"):
        train(config, toy(config), tmp_path / "c", QUIET, codebook=codebook, weights=foreign)


def test_weights_bring_the_scale_of_distances_only_where_it_fits(micro, codebook):
    """A scale is of one codebook's unit, and where tau is given it is tau's."""
    theirs = build(micro().model, 1, torch.from_numpy(codebook.vectors))
    theirs.depth_head.log_scale.data.add_(0.5)  # as learnt
    wide = torch.from_numpy(20 * codebook.vectors)
    for config, vectors, expected in (
        (micro(), torch.from_numpy(codebook.vectors), theirs.depth_head.log_scale.item()),
        (micro(), wide, theirs.depth_head.log_scale.item() - 0.5 - 2 * math.log(20)),
        (micro(model__depth__temperature=7.0), wide, -math.log(7)),
        (micro(model__depth__temperature=7.0), wide / 20, -math.log(7)),
    ):
        model = build(config.model, 0, vectors)
        restoring.start_from(model, theirs.state_dict())
        assert model.depth_head.log_scale.item() == pytest.approx(expected, abs=1e-5)
        assert torch.equal(model.action.norm.weight, theirs.action.norm.weight)


def test_codes_need_their_codebook(micro, toy, tmp_path):
    config = micro()
    with pytest.raises(ConfigError, match="no codebook"):
        train(config, toy(config), tmp_path, QUIET)


@pytest.mark.parametrize("future", [0, 3])
def test_a_prior_counts_the_targets(micro, toy, future):
    """Those of every sample: of the frame `future` steps on, where the episode has it."""
    config = micro(model__depth__prior=True, model__depth__future=future)
    data = toy(config)
    counts = data.code_counts()
    member, depth = data.members[0], config.model.depth
    expected = np.zeros_like(counts)
    for index in member.episodes_used:
        episode = member.episodes.episode(index)
        for camera in range(depth.cameras):
            grid = member.codes.grid_of(episode.key, config.data.cameras[camera]).codes
            for step in range(future, len(episode)):
                for position, code in enumerate(grid[step].reshape(-1)):
                    expected[camera, position, code] += 1
    assert (counts == expected).all()
    some = data.code_counts(samples=5).sum()
    assert 0 < some <= 5 * depth.cameras * depth.grid**2


def test_a_prior_resumes_with_the_weights_and_never_comes_from_others(
    micro, toy, codebook, tmp_path
):
    config = micro(model__depth__prior=True, train__steps=2)
    data = toy(config)
    counts = data.code_counts()
    first = train(config, data, tmp_path / "a", QUIET, codebook=codebook)
    assert first.finished
    name = restoring.PRIOR
    weights = checkpoint.read_tensors(checkpoint.find(tmp_path / "a"), "model")
    shares = (counts + 1) / (counts + 1).sum(-1, keepdims=True)
    assert torch.allclose(weights[name], torch.from_numpy(np.log(shares)).float())
    fewer = toy(config, only=[0])
    train(config, fewer, tmp_path / "b", QUIET, codebook=codebook, weights=weights)
    other = checkpoint.read_tensors(checkpoint.find(tmp_path / "b"), "model")
    assert not torch.equal(other[name], weights[name])
    plain = micro(train__steps=1)
    train(plain, toy(plain), tmp_path / "c", QUIET, codebook=codebook, weights=weights)
    assert name not in checkpoint.read_tensors(checkpoint.find(tmp_path / "c"), "model")


@pytest.mark.parametrize("side", ["episodes", "codes"])
def test_parts_that_were_made_anew_are_other_data(
    micro, toy, codebook, tmp_path, monkeypatch, side
):
    config = micro(train__steps=4)
    train(config, toy(config), tmp_path, QUIET, codebook=codebook, should_stop=stop_after(2))
    kind = {"episodes": fakes.FakeEpisodes, "codes": fakes.FakeCodes}[side]
    monkeypatch.setattr(kind, "content", "made anew")
    with pytest.raises(StaleStore, match=f"the {side} of toy were made anew since") as caught:
        train(config, toy(config), tmp_path, QUIET, codebook=codebook)
    assert "--no-resume" in caught.value.remedy
    monkeypatch.undo()
    assert train(config, toy(config), tmp_path, QUIET, codebook=codebook).finished


def test_a_run_that_does_not_say_what_its_parts_were_is_resumed_and_told(
    micro, toy, codebook, tmp_path, monkeypatch, capsys
):
    config = micro(train__steps=4)
    with monkeypatch.context() as older:
        older.setattr(
            "vla.training.resume.identity",
            lambda m, size, cameras: [m.name, m.episodes.fingerprint, m.weight, size],
        )
        train(config, toy(config), tmp_path, QUIET, codebook=codebook, should_stop=stop_after(2))
    assert train(config, toy(config), tmp_path, QUIET, codebook=codebook).finished
    assert "whether the parts of toy were made anew since is not known" in capsys.readouterr().err
    assert len(checkpoint.read_state(checkpoint.find(tmp_path)).data[0]) == 5


def stop_after(updates):
    """Stops a training after so many updates."""
    asked = count()
    return lambda: next(asked) >= updates
