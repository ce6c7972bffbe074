"""What a worker process needs to evaluate a policy; picklable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from pipelines.device import one_thread
from pipelines.evaluate.play import PolicySource, measure
from pipelines.evaluate.trials import Arena, Evaluation, TrialJob, TrialOutcome
from pipelines.sim.benchmark import benchmark_of
from pipelines.sim.config import EvalConfig
from pipelines.sim.rollout import Player


@dataclass(frozen=True)
class ArenaBuilder:
    """Makes what a worker process needs: the policy, and simulators when they are wanted."""

    evaluation: Evaluation
    source: PolicySource
    settings: EvalConfig

    def __call__(self) -> Arena:
        return self.of(self.source.open(benchmark_of(self.settings.suite).meaning))

    def of(self, player: Player) -> Arena:
        """What a process needs that has its policy elsewhere, or already."""
        one_thread()
        settings = self.settings
        build = partial(
            benchmark_of(settings.suite).open,
            size=settings.size,
            settle_steps=settings.settle_steps,
        )
        accepted = self.source.accepted
        return Arena(self.evaluation, player, build, self.settings.videos, measure, accepted)


def played(arena: ArenaBuilder, jobs: Sequence[TrialJob], workers: int) -> Iterator[TrialOutcome]:
    """Runs trials in `workers` processes, each with a policy, or with one that all of them ask."""
    from pipelines.sim import workers as processes

    if not arena.source.batch:
        return processes.run(arena, jobs, workers)
    from pipelines.evaluate import shared

    one_thread()
    policy = arena.source.open(benchmark_of(arena.settings.suite).meaning)
    assert isinstance(policy, shared.Asked)  # a server has no batch, nor has one with a codebook
    return shared.run(arena.of, policy, jobs, workers)
