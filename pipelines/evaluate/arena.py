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
        from pipelines.sim.libero import MEANING, LiberoSimulator

        one_thread()
        build = partial(LiberoSimulator, size=self.settings.size)
        player, accepted = self.source.open(MEANING), self.source.accepted
        return Arena(self.evaluation, player, build, self.settings.videos, measure, accepted)
