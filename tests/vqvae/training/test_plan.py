from __future__ import annotations

import json

import pytest

from depthtok.errors import SourceError, StaleStore
from tests.vqvae.synthetic import scenes, tiny
from vqvae.config import TrainOptions
from vqvae.data.clips import ClipSource
from vqvae.data.frames import INDEX
from vqvae.training import plan as planning
from vqvae.training.plan import TrainingPlan, plan
from vqvae.training.train import train


def test_a_plan_counts_what_the_training_would_take(tmp_path, source):
    planned = plan(tiny(50), [source], tmp_path / "cb", "cpu")
    assert (planned.steps, planned.device, planned.remaining) == (50, "cpu", (50,))
    learnt = 5  # of six clips, one of which is held out
    assert (planned.clips, planned.frames) == (learnt, 12 * learnt)
    assert planned.frame_bytes == 64 * 64 * 2
    assert planned.step_seconds > 0
    assert not list(tmp_path.iterdir())


def test_the_time_is_that_of_cache_and_steps_of_each_training():
    planned = TrainingPlan("cb", 9, 100, 50, 8, "cpu", 0.01, 8192, 0.5, (50, 50))
    assert planned.seconds == 2 * (100 * 0.01 + 50 * 0.5)
    text = "\n".join(planned.lines())
    assert "50 steps of 8 crops 2 times, from the beginning" in text
    assert "about 52 s on this cpu, 0.5 s a step" in text


def test_steps_are_timed_with_codes_and_to_the_last(tmp_path, source, monkeypatch):
    """A training of the fewest steps has none left after its warm-up to measure."""
    trainers = []
    timed = planning._seconds_of_a_step
    monkeypatch.setattr(
        planning, "_seconds_of_a_step", lambda trainer: trainers.append(trainer) or timed(trainer)
    )
    plan(tiny(3), [source], tmp_path / "cb", "cpu")
    (trainer,) = trainers
    assert trainer.model.quantizer.initialised
    assert trainer.step == trainer.config.warmup + 1 + planning.STEPS


def test_frames_are_no_more_than_the_training_takes(tmp_path, source):
    planned = plan(tiny(6).with_training(frames=20), [source], tmp_path / "cb", "cpu")
    assert planned.frames == 20


def test_what_is_done_is_left_out(tmp_path, source):
    config, out, twin = tiny(6), tmp_path / "cb", tmp_path / "cb.continuous"
    fresh = plan(config, [source], out, "cpu", twin=twin)
    assert fresh.remaining == (6, 6)
    steps = iter([False, True])
    options = TrainOptions()
    assert train(config, [source], out, options, should_stop=lambda: next(steps)) is None
    stopped = plan(config, [source], out, "cpu", twin=twin)
    assert stopped.remaining == (4, 6)
    assert "6 steps of 8 crops 2 times, of which 2 are done" in stopped.lines()[0]
    assert plan(config, [source], out, "cpu", resume=False).remaining == (6,)
    with pytest.raises(StaleStore, match="other settings, data or ranks"):
        plan(config.with_training(lr=1.0), [source], out, "cpu")
    train(config, [source], out, options)
    finished = plan(config, [source], out, "cpu")
    assert (finished.remaining, finished.seconds) == ((0,), 0)
    assert finished.lines() == [f"train-vqvae -> {out}: nothing is left to do: it is trained"]
    with pytest.raises(StaleStore, match="codebook from other settings"):
        plan(tiny(7), [source], out, "cpu")


def test_stores_of_weight_0_are_cached_as_in_the_training(tmp_path, source):
    never = ClipSource("never", "f1", scenes(6), weight=0.0)
    planned = plan(tiny(6), [source, never], tmp_path / "cb", "cpu")
    train(tiny(6), [source, never], tmp_path / "cb", TrainOptions(keep_work=True))
    index = json.loads((tmp_path / "cb.training" / INDEX).read_text())
    assert planned.frames == sum(item["frames"] for item in index["sources"])


def test_given_clips_are_held_out(tmp_path, source):
    held_out = [ClipSource("other", "f1", scenes(2))]
    assert plan(tiny(6), [source], tmp_path, "cpu", held_out=held_out).clips == 6


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_nothing_to_train_on_is_an_error(tmp_path, source, weight):
    nothing = ClipSource("none", "f1", source.clips if not weight else [], weight)
    with pytest.raises(SourceError, match="no clips"):
        plan(tiny(6), [nothing], tmp_path, "cpu")
