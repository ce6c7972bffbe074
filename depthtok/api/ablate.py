"""Named arms over seeds: trained or resumed, played, and what can be concluded of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from depthtok.api.eval import evaluate
from depthtok.api.parameters import Flag, Positional
from depthtok.api.study import Study
from depthtok.api.train_vla import train_vla
from depthtok.config import load_toml, to_json
from depthtok.errors import ConfigError, DepthtokError, MissingPackage, StaleStore
from depthtok.log import announce, warn

if TYPE_CHECKING:
    from pipelines.ablate.power import PowerPlan
    from pipelines.ablate.seed_result import SeedResult
    from pipelines.ablate.study_page import ClosedLoop
    from pipelines.sim.config import EvalConfig
    from vla.config import Config
    from vla.evaluation.ablation import AblationTable


@dataclass(frozen=True)
class Ablation:
    """The figures of every variant over its seeds, and the page that shows them; where policies
    were played, what that showed; and what failed of, by title."""

    table: AblationTable
    page: Path
    closed_loop: ClosedLoop | None = None
    failures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SeedRun:
    """One training of an arm, and its trials. Picklable."""

    results: Path  # the folder of all seeds' files
    log: Path
    arm: str
    seed: int
    run: Path
    training: Mapping[str, Any]  # arguments of train_vla
    playing: Mapping[str, Any] | None  # arguments of evaluate
    of_trials: Mapping[str, object] | None  # of them, what decides trials
    learns: Mapping[str, object]  # see `pipelines/ablate/learnt.py`; as the study began

    @property
    def title(self) -> str:
        return f"{self.arm}, seed {self.seed}"

    @property
    def config(self) -> Config:
        return self.training["settings"]

    @property
    def path(self) -> Path:
        """The file of what remains of it."""
        from pipelines.ablate.seed_result import SeedResult

        return SeedResult.path(self.results, self.arm, self.seed)

    def result(self) -> SeedResult | None:
        """What remains of it, if it is finished: None, too, where [eval] was another one. Raises
        `StaleStore` where the training's settings were, or what it learnt from."""
        from pipelines.ablate.learnt import differences
        from pipelines.ablate.seed_result import SeedResult
        from vla.config import Config

        if not self.path.is_file():
            return None
        result = SeedResult.read(self.path)
        if Config.from_json(result.config) != self.config:
            raise StaleStore(
                f"{self.path} is of other settings than the study's",
                remedy="give the same settings, or another `out`",
            )
        if differ := differences(result.learnt or {}, self.learns):
            raise StaleStore(
                f"{self.path} did not learn from what the study names now: {', '.join(differ)}",
                remedy="name what it learnt from, or give another `out` (and `results`)",
            )
        return result if to_json(result.playing) == to_json(self.of_trials) else None

    def learns_now(self) -> dict[str, object]:
        """What it would learn from, if it were trained now."""
        from pipelines.ablate.learnt import learnt

        names = ("settings", "stores", "weights", "camera")
        return learnt(*(self.training[name] for name in names))

    def carry_out(self) -> None:
        """Trains, plays, and commits the result."""
        from pipelines.ablate.seed_result import SeedResult
        from vla.training import checkpoint

        learns = self.learns_now()  # a store may have been made anew since the study began
        cost: dict[str, float | None] = {}
        resumed, since = bool(checkpoint.steps(self.run)), _cpu_s()
        announce(train_vla(**self.training))
        cost["training"] = None if resumed else _cpu_s() - since  # of a part it would mislead
        if self.playing is not None:
            resumed, since = (self.run / "eval").exists(), _cpu_s()
            announce(evaluate(**self.playing).words)
            cost["evaluation"] = None if resumed else _cpu_s() - since
        evaluation = None if self.playing is None else self.run / "eval"
        SeedResult.of(
            self.arm, self.seed, self.config, self.run, self.of_trials, evaluation, cost, learns
        ).write(self.results)


def _cpu_s() -> float:
    """CPU seconds of this process and its ended children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def ablate(
    config: Annotated[Path, Positional("CONFIG.toml", "description of the study")],
    jobs: Annotated[int, Flag("runs at once, each on one core; 0: here, on all", least=0)] = 0,
    nice: Annotated[int, Flag("niceness of the runs: 19 gives way to all", least=0, most=19)] = 0,
    plan: Annotated[bool, "say how many seeds and trials a difference takes, and exit"] = False,
    difference: Annotated[
        float, Flag("of success rates to plan for, in points; 0: several", least=0, most=100)
    ] = 0,
    first: Annotated[int, Flag("only so many of the seeds, the first ones; 0: all", least=0)] = 0,
    report: Annotated[bool, "conclude from the runs that are finished; trains nothing"] = False,
) -> Ablation | PowerPlan:
    """Train arms over several seeds, play them, and say what differs.

    Arms are presets, with ablations after a plus, or tables of settings. Rerun to resume. A
    difference without --plan is refused.

    Example: depthtok ablate docs/ablation.toml
    """
    from depthtok.disk.locks import writing

    if difference and not plan:
        raise ConfigError("--difference is for a plan, which trains nothing", remedy="add --plan")
    study = Study.read(load_toml(config), str(config))
    study = study.first(first) if first else study
    runs = _runs(study, one_core=bool(jobs or nice))
    if plan:
        return _plan(study, runs, difference)
    with writing(study.out):
        failures = {} if report else _carry_out(runs, jobs, nice)
        return _concluded(study, runs, failures, str(config))


def _runs(study: Study, *, one_core: bool) -> list[SeedRun]:
    """Every run of a study, checked. On one core each has one thread, where the study does not say
    otherwise, so that its bits do not depend on how many run at once."""
    from pipelines.evaluate.judged import knows_codes

    trainings = study.trainings(threads=1 if one_core else None)
    runs: list[SeedRun] = []
    learns: dict[str, Mapping[str, object]] = {}  # by arm: no seed changes it
    for (name, seed, out), (_, arguments) in zip(study.runs(), trainings, strict=True):
        depth = arguments["settings"].model.depth
        playing = study.played(out, depth.target if knows_codes(depth) else "")
        places = study.results, study.log(name, seed)
        run = SeedRun(*places, name, seed, out, arguments, playing, study.of_trials, {})
        if name not in learns:
            learns[name] = run.learns_now()
        runs.append(replace(run, learns=learns[name]))
    return runs


def _carry_out(runs: Sequence[SeedRun], jobs: int, nice: int) -> dict[str, str]:
    """Carries out what is not finished; what failed, and of what, by title."""
    from depthtok.signals import stoppable
    from pipelines.ablate import pool

    todo = [run for run in runs if run.result() is None]
    failures: dict[str, str] = {}
    if not jobs and not nice:
        for number, run in enumerate(todo, 1 + len(runs) - len(todo)):
            announce(f"[{number}/{len(runs)}] {run.title}")
            try:
                run.carry_out()
            except DepthtokError as error:
                failures[run.title] = pool.in_words(error)
                announce(f"failed: {failures[run.title]}")
        return failures
    with stoppable():
        ended = pool.run(todo, max(jobs, 1), nice)
        for number, finished in enumerate(ended, 1 + len(runs) - len(todo)):
            job = finished.job
            assert isinstance(job, SeedRun)
            words = finished.failure or _outcome(job)
            announce(f"[{number}/{len(runs)}] {job.title}: {words}")
            if finished.failure:
                failures[job.title] = finished.failure
    return failures


def _outcome(run: SeedRun) -> str:
    """In words, of a run that has ended."""
    from pipelines.ablate.seed_result import SeedResult

    result = SeedResult.read(run.path)
    if not result.trials:
        return "trained"
    return f"{sum(result.won.values())} of {len(result.trials)}"


def _concluded(
    study: Study, runs: Sequence[SeedRun], failures: Mapping[str, str], title: str
) -> Ablation:
    """What the finished seeds of all arms show, and the page."""
    from pipelines.ablate.study_page import ClosedLoop
    from vla.evaluation.ablation import RunFigures, table
    from vla.training import checkpoint

    results = _finished(study, runs)
    common = set.intersection(*({r.seed for r in several} for several in results.values()))
    if not common:
        failed = "".join(f"; {run}: {words}" for run, words in failures.items())
        raise DepthtokError(
            f"no seed is finished in all arms{failed}",
            remedy="run the command again, without --report and once what failed is mended: what "
            "is finished is kept",
        )
    figures = {}
    for name, several in results.items():
        places = {result.seed: study.run(name, result.seed) for result in several}
        figures[name] = [
            RunFigures.of(places[r.seed]) if checkpoint.steps(places[r.seed]) else r.figures
            for r in several
            if r.seed in common
        ]
    tabulated = table(figures)
    page, closed = tabulated.report(title), None
    if study.playing is not None:
        closed = ClosedLoop(results, study.compare)
        page = closed.report(page)
    return Ablation(tabulated, page.write(study.out, "ablation"), closed, failures)


def _finished(study: Study, runs: Sequence[SeedRun]) -> dict[str, list[SeedResult]]:
    """The results that there are, by arm, in the order of the seeds; says which files are left out
    for trials of other settings, and how many do not say what they learnt from."""
    results: dict[str, list[SeedResult]] = {name: [] for name in study.variants}
    others = []
    for run in runs:
        if (result := run.result()) is not None:
            results[run.arm].append(result)
        elif run.path.is_file():
            others.append(str(run.path))
    if others:
        which = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if others[3:] else "")
        warn(f"left out, as the trials were of other settings than [eval] has now: {which}")
    silent = sum(result.learnt is None for several in results.values() for result in several)
    if silent:
        warn(
            f"{silent} files of seeds do not say what they learnt from (an earlier version made "
            "them): they are used, and not compared with the study's data"
        )
    return results


def _plan(study: Study, runs: Sequence[SeedRun], difference: float) -> PowerPlan:
    """What differences take, from what the finished runs of this study show."""
    from pipelines.ablate import power
    from pipelines.ablate.study_page import cost, spread

    results = _finished(study, runs)
    trials = [len(result.trials) for several in results.values() for result in several]
    number, of_one_task = max(trials, default=0), False
    if not number and runs[0].playing is not None:
        number, of_one_task = _trials(runs[0].playing["settings"])
    return power.PowerPlan(
        len(study.variants),
        len(study.seeds),
        number,
        (difference / 100,) if difference else power.DIFFERENCES,
        spread(results),
        cost(results),
        of_one_task,
    )


def _trials(settings: EvalConfig) -> tuple[int, bool]:
    """Trials of a training; and whether they are of one task alone, as what a suite has that is
    asked for as a whole is not known without its simulator."""
    from pipelines.evaluate.protocol import Protocol
    from pipelines.sim.config import numbers

    try:
        return len(Protocol.of(settings).jobs), False
    except MissingPackage:
        tasks = numbers(settings.tasks, "tasks")
        return settings.trials * max(len(tasks), 1), not tasks
