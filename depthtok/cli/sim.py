"""collect, eval: demonstrations from a simulator, and policies judged in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depthtok.cli.flags import CudaGraph, Precision, Sampler
from depthtok.cli.options import Only, command
from depthtok.cli.stages import SHOWN_FAILURES
from depthtok.config import RunOptions
from depthtok.errors import ConfigError
from depthtok.format import human_count, human_duration
from depthtok.log import result, say, typed, warn
from depthtok.progress import progress
from depthtok.signals import stoppable
from pipelines.sim.config import CollectConfig, EvalConfig, numbers

if TYPE_CHECKING:
    from pipelines.collect import CollectStage
    from pipelines.evaluate.play import PolicySource
    from pipelines.evaluate.trials import Arena, Evaluation, Job
    from pipelines.stage import Outcome

How = Annotated[
    RunOptions,
    Only("workers", "ray_address", "cpus_per_worker", "shard", "limit", "resume", "retry_failed",
         "json", limit="stop after the shards with this many episodes",
         resume="keep finished shards"),
]  # fmt: skip
HowEval = Annotated[
    RunOptions,
    Only("workers", "device", "shard", "limit", "resume", "json",
         workers="processes, each with a simulator and the policy; 0: this process",
         limit="run only this many trials", resume="keep finished trials"),
]  # fmt: skip
SCHEMA = "libero_sim_depth"  # of what collect makes


def register(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    command(app)(collect)
    command(app, name="eval")(evaluate)


def collect(
    out: Annotated[Path, typer.Option("--out", help="directory of the RLDS data set")],
    settings: CollectConfig,
    options: How,
) -> None:
    """Record LIBERO demonstrations with ground-truth depth.

    A scripted expert solves pick-and-place tasks from seeded placements, or official demonstrations
    are replayed (--demos). Writes an RLDS data set. Needs the extra `sim`.

    Example: depthtok collect --suite libero_object --tasks 0,1 --episodes 10 --out runs/demos
    """
    from pipelines.collect import CollectStage
    from pipelines.run import run
    from pipelines.sim.setup import graphics

    graphics()  # refused here, and not by every episode
    stage = CollectStage(out, settings)
    if stage.left_out:
        warn(f"left out, as the scripted expert only puts things somewhere: tasks {stage.left_out}")
    with stoppable():
        outcome = run(stage, options)
    say(*_collected(stage, outcome), json=options.json)
    if options.json:
        result(outcome)
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)


def _collected(stage: CollectStage, outcome: Outcome) -> list[str]:
    from depthtok.sources.schema import Schema

    lines = [
        f"{stage.place}: {human_count(outcome.episodes)} successful episodes, "
        f"{human_count(outcome.steps)} steps; {outcome.made} made, {outcome.kept} kept, in "
        f"{human_duration(outcome.seconds)}"
    ]
    lines += [f"failed: {each.key}: {each.reason}" for each in outcome.failures[:SHOWN_FAILURES]]
    if outcome.failures:
        lines.append(f"{len(outcome.failures)} failed episodes are in {stage.place / 'failed'}")
    lines += [f"given up: {part}: {why}" for part, why in outcome.given_up.items()]
    if outcome.left or outcome.given_up:
        lines.append(f"{outcome.left} episodes are not done yet: the same command goes on")
    else:
        # A data set of another name has the same schema, which is not found by that name.
        told = () if Schema.find(stage.config.name) else ("--schema", SCHEMA)
        lines.append(
            f"next: {typed('convert', stage.place, *told, '--out', f'{stage.place}.episodes')}"
        )
    return lines


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
