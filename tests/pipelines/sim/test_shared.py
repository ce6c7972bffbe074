"""One policy for several simulators: the same trials for any number of them."""

from dataclasses import replace
from functools import partial
from multiprocessing import Pipe, get_context

import numpy as np
import pytest
import torch

from depthtok.errors import ConfigError, DepthtokError
from depthtok.testing import tree_digest
from pipelines.evaluate import shared
from pipelines.evaluate.play import PolicySource
from pipelines.evaluate.trials import Arena, Evaluation
from tests.pipelines.sim.fake_world import MEANING, FakeWorld
from tests.pipelines.sim.test_evaluation import CARD, JOBS
from vla.serving.running import Running


class Noisy:
    """A policy whose steps follow from what it sees and from its noise."""

    meaning, cameras, running = MEANING, ("image",), Running(batch=2)

    def __init__(self):
        self.widths = []

    def observe(self, observations):
        assert set(observations[0]["images"]) == {"image"}
        if observations[0]["proprio"][0] < -0.9:
            raise ConfigError("too far left", remedy="start elsewhere")
        return observations[0]

    def acts(self, seen, generators):
        self.widths.append(len(seen))
        steps = [0.1 + 0.05 * torch.rand(3, generator=g).numpy() for g in generators]
        return [
            np.stack([step, np.full(3, one["proprio"][0])], 1).astype(np.float32)
            for step, one in zip(steps, seen, strict=True)
        ]


def arena(evaluation, player):
    return Arena(evaluation, player, FakeWorld, 1)


def evaluated(path, workers, jobs=JOBS):
    evaluation, policy = Evaluation(path, CARD), Noisy()
    evaluation.begin()
    todo = [job for job in jobs if not evaluation.is_done(job)]
    done = list(shared.run(partial(arena, evaluation), policy, todo, workers))
    evaluation.keep_first(1)
    return done, policy


def test_results_do_not_depend_on_how_many_ask(tmp_path):
    done, alone = evaluated(tmp_path / "one", 1)
    assert len(done) == len(JOBS)
    assert set(alone.widths) == {1}
    _, policy = evaluated(tmp_path / "three", 3)
    assert max(policy.widths) == 2
    assert tree_digest(tmp_path / "one") == tree_digest(tmp_path / "three")
    first = (tmp_path / "one/trials/task-02-trial-000.json").read_bytes()
    again, _ = evaluated(tmp_path / "one", 2, JOBS)
    assert again == []
    assert (tmp_path / "one/trials/task-02-trial-000.json").read_bytes() == first


def dies(evaluation, player):
    raise SystemExit(3)


def test_who_dies_and_what_is_refused_is_said(tmp_path):
    with pytest.raises(DepthtokError, match="exit code 3"):
        list(shared.run(partial(dies, None), Noisy(), JOBS[:1], 1))
    evaluation = Evaluation(tmp_path, CARD)
    far = [placed(JOBS[0], 12)]
    with pytest.raises(ConfigError, match="too far left"):
        list(shared.run(partial(arena, evaluation), Noisy(), far, 1))


def test_who_died_before_the_answer_is_said():
    ours, theirs = Pipe()
    theirs.close()
    process = get_context("spawn").Process()
    process.start()
    process.join()
    gone = shared._Simulating(process, ours, torch.Generator())
    with pytest.raises(DepthtokError, match=r"a worker process died \(exit code 0\)"):
        shared._send(gone, None)


def placed(job, state):
    return replace(job, trial=replace(job.trial, init_state=state))


def test_depth_codes_need_a_policy_each(tmp_path):
    with pytest.raises(ConfigError, match="policy of its own"):
        PolicySource("run", codebook=tmp_path, batch=4)
