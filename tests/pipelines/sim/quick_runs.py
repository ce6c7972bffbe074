"""Whole runs of `eval` and `collect` without MuJoCo, for processes that are killed."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import numpy as np

from depthtok.config import RunOptions
from pipelines import collect, run
from pipelines.evaluate import verdict
from pipelines.evaluate.trials import Arena, Evaluation, TrialJob
from pipelines.sim import workers
from pipelines.sim.benchmark import ShownMotion
from pipelines.sim.config import CollectConfig
from pipelines.sim.libero_benchmark import LiberoBenchmark, LiberoExpert
from pipelines.sim.motion import Motion
from pipelines.sim.recording import features
from pipelines.sim.rollout import Trial
from pipelines.sim.simulator import Task
from tests.pipelines.sim.fake_world import TASK, FakeWorld, Walker

TRIALS, EPISODES = 8, 4
STEP_S = 0.002  # so that a signal finds the work at all stages
CARD = {
    "policy": "walker",
    "suite": "libero_fake",
    "seed": 7,
    "trials": TRIALS,
    "max_steps": 9,
    "replan_steps": 3,
    "size": 8,
    "versions": {"fake": "1"},
    "tasks": {"2": "go right"},
}
JOBS = [TrialJob(TASK, Trial(k, TASK.seed("eval", 7, k), 9, 3)) for k in range(TRIALS)]


class SlowWorld(FakeWorld):
    """Takes its time."""

    def __init__(self, task: Task, step_s: float) -> None:
        super().__init__(task)
        self.step_s = step_s

    def step(self, action):
        time.sleep(self.step_s)
        return super().step(action)


def arena(evaluation, step_s):
    return Arena(evaluation, Walker(0.14), partial(SlowWorld, step_s=step_s), 2)


def evaluate(place: Path, processes: int = 0, step_s: float = STEP_S) -> None:
    """As `depthtok eval` does it."""
    evaluation = Evaluation(place, CARD)
    evaluation.begin()
    todo = [job for job in JOBS if not evaluation.is_done(job)]
    for _ in workers.run(partial(arena, evaluation, step_s), todo, processes):
        pass
    evaluation.keep_first(2)
    verdict.page(evaluation).write(place)


class Bench(FakeWorld):
    """Stands for the simulator in a recorder."""

    def __init__(self, task, size):
        super().__init__(task)
        self.size = size


class QuickExpert(LiberoExpert):
    """Three steps of nothing that follow from the seed; one start in three is too hard."""

    def demonstrate(self, simulator, *, seed, noise, variety, init_state):
        time.sleep(3 * STEP_S)
        rng = np.random.default_rng(seed)
        motion = Motion(rng.random((3, 5)), rng.random((3, 7), np.float32), seed % 3 != 0)
        return ShownMotion(motion, 0.0, {})


class QuickBenchmark(LiberoBenchmark):
    """LIBERO without its simulator, and with an expert that does not move."""

    def open(self, task, size, settle_steps):
        return Bench(task, size)

    def versions(self):
        return {"fake": "1"}


def film(simulator, motion, origin, layout):
    """Values of every feature, the actions among them."""
    values = {}
    for path, feature in features(simulator.size, layout).items():
        steps = (len(motion),) if feature.per_step else ()
        text = [origin.label] * len(motion) if feature.per_step else origin.label
        zeros = np.zeros((*steps, *feature.shape), feature.dtype)
        values[path] = text if feature.kind == "text" else zeros
    return values | {"steps/action": motion.actions}


def record(place: Path) -> None:
    """As `depthtok collect` does it, two tasks."""
    benchmark = QuickBenchmark(expert=QuickExpert())
    collect.benchmark_of, collect.film = lambda suite: benchmark, film
    config = CollectConfig(tasks="0-1", episodes=EPISODES, size=16, episodes_per_shard=3)
    work = collect.CollectStage(place, config)
    work.__dict__["tasks"] = {n: Task("fake", n, f"t{n}", f"do {n}", 9, 50) for n in range(2)}
    run.run(work, RunOptions())
