"""eval: policies in a simulator, closed loop."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depthtok.cli.flags import CudaGraph, Precision, Sampler
from depthtok.cli.options import Only, command
from depthtok.config import RunOptions
from depthtok.errors import ConfigError
from depthtok.log import result, say, warn
from depthtok.progress import progress
from depthtok.signals import stoppable
from pipelines.sim.config import EvalConfig, numbers

if TYPE_CHECKING:
    from pipelines.evaluate.play import PolicySource
    from pipelines.evaluate.trials import Arena, Evaluation, Job

HowEval = Annotated[
    RunOptions,
    Only("workers", "device", "shard", "limit", "resume", "json",
         workers="processes, each with a simulator and the policy; 0: this process",
         limit="run only this many trials", resume="keep finished trials"),
]  # fmt: skip


def register(app: typer.Typer) -> None:
    """Adds the command of this file."""
    command(app, name="eval")(evaluate)


def evaluate(
    policy: Annotated[
        str, typer.Argument(metavar="RUN|ws://HOST:PORT", help="a training run, or a policy server")
    ],
    out: Annotated[Path, typer.Option("--out", help="directory of the evaluation")],
    settings: EvalConfig,
    options: HowEval,
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", help="data set whose units to act in, if trained on several"),
    ] = None,
    codebook: Annotated[
        Path | None,
        typer.Option("--codebook", help="also compare its depth codes with the ground truth's"),
    ] = None,
    gripper: Annotated[
        str | None,
        typer.Option("--gripper", help="the policy's gripper convention, where it states none"),
    ] = None,
    accept: Annotated[
        list[str] | None,
        typer.Option("--accept", help="what may differ from the robot's: fps, proprio.names, ..."),
    ] = None,
    precision: Precision = None,
    sampler: Sampler = None,
    cuda_graph: CudaGraph = None,
) -> None:
    """Evaluate a policy in LIBERO, closed loop.

    The field's protocol: official initial states, settling steps, step limits. Writes success rates
    with intervals, videos and a report. Rerun to resume. Needs the extra `sim`. A policy whose
    actions are of another robot or rate is refused; another gripper convention is converted.

    Example: depthtok eval runs/policy --suite libero_object --tasks 0 --trials 50 --out runs/eval
    """
    from depthtok.disk.locks import writing_shard
    from pipelines.device import choose
    from pipelines.evaluate.play import PolicySource

    source = PolicySource(
        policy, dataset, choose(options.device), codebook, gripper, tuple(accept or ()),
        precision, sampler, cuda_graph,
    )  # fmt: skip
    with writing_shard(out, options.shard):
        _evaluate(*_evaluation(out, settings, source), source, settings, options)


def _evaluate(
    evaluation: Evaluation, jobs: list[Job], source: PolicySource, settings: EvalConfig,
    options: RunOptions,
) -> None:  # fmt: skip
    """Runs the trials that are not done yet, and says what came out."""
    from pipelines.evaluate.trials import Evaluation
    from pipelines.sim.workers import run

    out = evaluation.path
    evaluation.begin()
    jobs = options.mine(jobs)[: options.limit]
    if not options.resume:
        evaluation.forget(jobs)
    evaluation = Evaluation.open(out)
    settings = replace(settings, videos=evaluation.card.get("videos", settings.videos))
    todo = [job for job in jobs if not evaluation.is_done(job)]
    arena = ArenaBuilder(evaluation, source, settings)
    names = {job.name for job in jobs}
    kept = [each for each in Evaluation.open(out).outcomes if each.name in names]
    won = sum(each.success for each in kept)
    with stoppable(), progress(len(jobs), "trials", "eval", done=len(kept)) as bar:
        for done, outcome in enumerate(run(arena, todo, options.workers), len(kept) + 1):
            won += outcome.success
            bar.advance(1, success=won / done)
    evaluation.keep_first(settings.videos)
    _tell(evaluation, options)


def _tell(evaluation: Evaluation, options: RunOptions) -> None:
    """What came out, and where to look."""
    from pipelines.evaluate import verdict

    found = verdict.results(evaluation)
    page = verdict.page(evaluation).write(evaluation.path)
    say(f"{evaluation.path}: {verdict.measured(evaluation.card)}: {verdict.share(found)}",
        f"look: {page}", json=options.json)  # fmt: skip
    if not found["complete"]:
        warn("not all trials are done (--limit, --shard): the same command goes on")
    if options.json:
        result(found)


def _evaluation(
    out: Path, settings: EvalConfig, source: PolicySource
) -> tuple[Evaluation, list[Job]]:
    """The directory's description, and all the trials that belong to it."""
    from pipelines.evaluate.trials import Evaluation, Job
    from pipelines.sim import suites
    from pipelines.sim.libero import MEANING
    from pipelines.sim.rollout import Trial
    from pipelines.sim.setup import prepare, software, versions

    prepare()
    wanted = numbers(settings.tasks, "tasks") or range(len(suites.tasks(settings.suite)))
    tasks = [suites.task(settings.suite, number) for number in wanted]
    if settings.trials > suites.TRIALS:
        raise ConfigError(
            f"a task has {suites.TRIALS} official initial states, not {settings.trials}",
            remedy=f"give --trials up to {suites.TRIALS}",
        )
    limit = settings.max_steps or suites.MAX_STEPS[settings.suite]
    card = {
        **source.card(MEANING), "suite": settings.suite, "trials": settings.trials,
        "seed": settings.seed,
        "replan_steps": settings.replan_steps, "max_steps": limit, "size": settings.size,
        "settle_steps": suites.SETTLE_STEPS, "orientation": "raw[::-1, ::-1]",
        "tasks": {str(task.number): task.instruction for task in tasks},
        "videos": settings.videos, "versions": versions(),
        "software": {**software(), **source.runs_on},
    }  # fmt: skip
    jobs = [
        Job(
            task,
            Trial(k, task.seed("eval", settings.seed, k), limit, settings.replan_steps),
        )
        for task in tasks
        for k in range(settings.trials)
    ]
    return Evaluation(out, card), jobs


@dataclass(frozen=True)
class ArenaBuilder:
    """Makes what a worker process needs: the policy, and simulators when they are wanted."""

    evaluation: Evaluation
    source: PolicySource
    settings: EvalConfig

    def __call__(self) -> Arena:
        from functools import partial

        from pipelines.device import one_thread
        from pipelines.evaluate.play import judge
        from pipelines.evaluate.trials import Arena
        from pipelines.sim.libero import MEANING, LiberoSimulator

        one_thread()
        build = partial(LiberoSimulator, size=self.settings.size)
        player, accepted = self.source.open(MEANING), self.source.accepted
        return Arena(self.evaluation, player, build, self.settings.videos, judge, accepted)
