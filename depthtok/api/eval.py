"""A policy in a simulator, closed loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from depthtok.api.flags import CUDA_GRAPH, SAMPLER, Precision
from depthtok.api.parameters import BySet, Flag, Only, Positional, Prefix, Renamed
from depthtok.config import RunOptions
from depthtok.log import warn
from depthtok.progress import progress
from depthtok.signals import stoppable
from pipelines.sim.config import EvalConfig

if TYPE_CHECKING:
    from pipelines.evaluate.play import PolicySource
    from pipelines.evaluate.trials import Evaluation, TrialJob


@dataclass(frozen=True)
class PolicyEvaluation:
    """An evaluation: its success rates with intervals, in words, too, and the page."""

    path: Path
    figures: Mapping[str, Any]
    words: str
    page: Path

    @property
    def complete(self) -> bool:
        """Whether all trials are done."""
        return bool(self.figures["complete"])


def evaluate(
    policy: Annotated[str, Positional("RUN|ws://HOST:PORT", "a training run, or a policy server")],
    out: Annotated[Path, "directory of the evaluation"],
    settings: Annotated[
        EvalConfig,
        BySet("replan_steps", "settle_steps", "action_noise", "views", "starts", "chosen_by"),
    ],
    options: Annotated[
        RunOptions,
        Only(
            *("workers", "device", "shard", "limit", "resume"),
            workers="processes, each with a simulator and the policy; 0: this process",
            limit="run only this many trials",
            resume="keep finished trials",
        ),
        Prefix("", simulators="workers"),
        Renamed(workers="workers"),
    ],
    dataset: Annotated[str | None, "data set whose units to act in, if trained on several"] = None,
    codebook: Annotated[Path | None, "compare its depth codes with the true ones"] = None,
    gripper: Annotated[str | None, "the policy's gripper convention, where it states none"] = None,
    accept: Annotated[
        list[str] | None, "what may differ from the robot's: fps, orientation, ..."
    ] = None,
    precision: Precision = None,
    sampler: Annotated[str | None, Flag(SAMPLER, by_set=True)] = None,
    cuda_graph: Annotated[bool | None, Flag(CUDA_GRAPH, by_set=True)] = None,
    batch: Annotated[
        int | None,
        Flag(
            "one policy for all workers, so many observations a pass; else one each",
            least=1,
            by_set=True,
        ),
    ] = None,
) -> PolicyEvaluation:
    """Evaluate a policy in a simulator (LIBERO, Meta-World), closed loop.

    The field's protocol: official initial states, settling steps, step limits. Writes success rates
    with intervals, videos and a report. Rerun to resume. Needs the extra `sim` or `metaworld`. A
    policy whose actions are of another robot or rate is refused, and one that learnt from pictures
    another way up; another gripper convention is converted.

    Example: depthtok eval runs/policy --suite libero_object --tasks 0 --trials 50 --out runs/eval
    """
    from depthtok.disk.locks import writing_shard
    from depthtok.remote.snapshots import pinned
    from pipelines.device import choose
    from pipelines.evaluate import verdict
    from pipelines.evaluate.play import PolicySource

    source = PolicySource(
        pinned(policy),
        dataset,
        choose(options.device),
        codebook,
        gripper,
        tuple(accept or ()),
        precision,
        sampler,
        cuda_graph,
        batch,
    )
    with writing_shard(out, options.shard):
        evaluation = _run(*_evaluation(out, settings, source), source, settings, options)
        figures = verdict.results(evaluation)
        page = verdict.page(evaluation).write(out)
    words = f"{verdict.measured(evaluation.card)}: {verdict.share(figures)}"
    if not figures["complete"]:
        warn("not all trials are done (--limit, --shard): the same command goes on")
    return PolicyEvaluation(evaluation.path, figures, words, page)


def _run(
    evaluation: Evaluation,
    jobs: list[TrialJob],
    source: PolicySource,
    settings: EvalConfig,
    options: RunOptions,
) -> Evaluation:
    """Runs the trials that are not done yet."""
    from pipelines.evaluate.arena import ArenaBuilder, played
    from pipelines.evaluate.trials import Evaluation

    evaluation.begin()
    jobs = options.mine(jobs)[: options.limit]
    if not options.resume:
        evaluation.forget(jobs)
    evaluation = Evaluation.open(evaluation.path)
    settings = replace(settings, videos=evaluation.card.get("videos", settings.videos))
    todo = [job for job in jobs if not evaluation.is_done(job)]
    arena = ArenaBuilder(evaluation, source, settings)
    names = {job.name for job in jobs}
    finished = [
        outcome for outcome in Evaluation.open(evaluation.path).outcomes if outcome.name in names
    ]
    successes = sum(outcome.success for outcome in finished)
    with stoppable(), progress(len(jobs), "trials", "eval", done=len(finished)) as bar:
        for done, outcome in enumerate(played(arena, todo, options.workers), len(finished) + 1):
            successes += outcome.success
            bar.advance(1, success=successes / done)
    evaluation.keep_first(settings.videos)
    return evaluation


def _evaluation(
    out: Path, settings: EvalConfig, source: PolicySource
) -> tuple[Evaluation, list[TrialJob]]:
    """The directory's description, and all the trials that belong to it."""
    from pipelines.evaluate.card import as_carried_out
    from pipelines.evaluate.protocol import Protocol
    from pipelines.evaluate.trials import Evaluation
    from pipelines.sim.benchmark import benchmark_of

    benchmark = benchmark_of(settings.suite)
    benchmark.prepare()
    protocol = Protocol.of(settings)
    protocol.warn_of_repeats()
    card = {
        **source.card(benchmark.meaning, benchmark.view),
        "chosen_by": source.chosen_by(settings.chosen_by),
        **protocol.card(),
        "versions": benchmark.versions(),
        "software": {**benchmark.software(), **source.runs_on},
    }
    return Evaluation(out, as_carried_out(card)), list(protocol.jobs)
