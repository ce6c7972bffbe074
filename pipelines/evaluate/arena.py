"""What a worker process needs to evaluate a policy; picklable."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from pipelines.device import one_thread
from pipelines.evaluate.play import PolicySource, measure
from pipelines.evaluate.trials import Arena, Evaluation
from pipelines.sim.config import EvalConfig


@dataclass(frozen=True)
class ArenaBuilder:
    """Makes what a worker process needs: the policy, and simulators when they are wanted."""

    evaluation: Evaluation
    source: PolicySource
    settings: EvalConfig

    def __call__(self) -> Arena:
        from pipelines.sim.benchmark import benchmark_of

        one_thread()
        benchmark = benchmark_of(self.settings.suite)
        build = partial(benchmark.simulator, size=self.settings.size)
        player, accepted = self.source.open(benchmark.meaning), self.source.accepted
        return Arena(self.evaluation, player, build, self.settings.videos, measure, accepted)
