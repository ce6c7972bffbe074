"""Evaluations on disk: resumed per trial, refused where they are another one, and compared."""

import json
import os
import re
from functools import partial
from typing import get_type_hints

import pytest
from typer.testing import CliRunner

from depthtok.cli.main import app
from depthtok.errors import ConfigError, DepthtokError, NotAFile, SourceError, StaleStore
from depthtok.intervals import Paired
from depthtok.pages.report import Report
from depthtok.testing import tree_digest
from pipelines.evaluate import verdict
from pipelines.evaluate.card import as_carried_out
from pipelines.evaluate.trials import Arena, Evaluation, TrialJob
from pipelines.evaluate.words import WORDS, in_words
from pipelines.inspect.summary import inspect
from pipelines.sim import workers
from pipelines.sim.config import CollectConfig, EvalConfig
from pipelines.sim.rollout import Trial
from tests.pipelines.sim.fake_world import TASK, FakeWorld, Walker

CARD = {
    "policy": "walker",
    "suite": "libero_fake",
    "seed": 7,
    "trials": 4,
    "max_steps": 9,
    "replan_steps": 3,
    "size": 8,
    "versions": {"fake": "1"},
    "tasks": {"2": "go right"},
}
JOBS = [TrialJob(TASK, Trial(k, TASK.seed("eval", 7, k), 9, 3)) for k in range(4)]


def arena(evaluation, pace=0.12, videos=1):
    return Arena(evaluation, Walker(pace), FakeWorld, videos)


def evaluated(path, pace=0.12, jobs=JOBS, processes=0):
    evaluation = Evaluation(path, CARD)
    evaluation.begin()
    todo = [job for job in jobs if not evaluation.is_done(job)]
    done = list(workers.run(partial(arena, evaluation, pace), todo, processes))
    evaluation.keep_first(1)
    return done


def test_trials_are_files_and_films(tmp_path):
    done = evaluated(tmp_path)
    assert [outcome.success for outcome in done] == [True, False, False, False]  # 9 x 0.12 = 1.08
    names = sorted(path.name for path in (tmp_path / "trials").iterdir())
    assert names == [f"task-02-trial-00{k}.json" for k in range(4)]
    films = [path.name for path in Evaluation.open(tmp_path).videos()]
    assert films == ["task-02-trial-000-success.webp", "task-02-trial-001-failure.webp"]


def test_finished_trials_are_not_done_again(tmp_path):
    assert len(evaluated(tmp_path, jobs=JOBS[:2])) == 2
    before = (tmp_path / "trials/task-02-trial-001.json").read_bytes()
    assert [outcome.trial for outcome in evaluated(tmp_path)] == [2, 3]
    assert (tmp_path / "trials/task-02-trial-001.json").read_bytes() == before
    assert evaluated(tmp_path) == []


def test_processes_do_the_same_as_this_one(tmp_path):
    evaluated(tmp_path / "here")
    evaluated(tmp_path / "there", processes=2)
    assert tree_digest(tmp_path / "here") == tree_digest(tmp_path / "there")


def test_another_evaluation_is_refused(tmp_path):
    evaluated(tmp_path)
    with pytest.raises(StaleStore, match="other settings: --set replan_steps, --seed"):
        Evaluation(tmp_path, {**CARD, "seed": 8, "replan_steps": 1}).begin()
    with pytest.raises(SourceError, match="not an evaluation"):
        Evaluation.open(tmp_path / "nowhere")


def test_weights_may_move_and_more_trials_be_asked_for(tmp_path):
    card = {**CARD, "weights": {"model.safetensors": "ab"}, "config": {"cameras": ("a", "b")}}
    Evaluation(tmp_path, card).begin()
    Evaluation(tmp_path, {**card, "policy": "elsewhere", "trials": 6}).begin()
    assert Evaluation.open(tmp_path).card["trials"] == 6
    with pytest.raises(StaleStore, match="other settings: --trials"):
        Evaluation(tmp_path, card).begin()
    other = {**card, "trials": 6, "weights": {"model.safetensors": "cd"}}
    with pytest.raises(StaleStore, match="other settings: the weights of RUN"):
        Evaluation(tmp_path, other).begin()


def test_what_an_older_card_does_not_name_of_the_software_is_not_held_against_it(tmp_path):
    software = {"depthtok": "0.2.0", "gl": "Mesa", "blas": "openblas 0.3 Haswell"}
    older = {name: value for name, value in software.items() if name != "blas"}
    Evaluation(tmp_path / "a", {**CARD, "software": older}).begin()
    Evaluation(tmp_path / "a", {**CARD, "software": software}).begin()
    Evaluation(tmp_path / "b", {**CARD, "software": software}).begin()
    other = {**CARD, "software": {**software, "blas": "openblas 0.3 SkylakeX"}}
    with pytest.raises(StaleStore, match="Mesa, or numpy's kernels \\(OPENBLAS_CORETYPE\\)"):
        Evaluation(tmp_path / "b", other).begin()


def test_only_the_trials_that_are_asked_for_are_forgotten(tmp_path):
    evaluated(tmp_path)
    evaluation = Evaluation.open(tmp_path)
    evaluation.forget(JOBS[1:2])
    assert [evaluation.is_done(job) for job in JOBS] == [True, False, True, True]
    assert [path.stem for path in evaluation.videos()] == ["task-02-trial-000-success"]


def dies():
    raise SystemExit(3)


class Refuser:
    def do(self, job):
        raise ConfigError("no such action", remedy="mend it")


def test_a_worker_that_dies_is_said():
    with pytest.raises(DepthtokError, match=r"exit code 3.*memory"):
        list(workers.run(dies, [1], 1))


@pytest.mark.parametrize("processes", [0, 1])
def test_what_the_user_can_mend_comes_through(processes):
    with pytest.raises(ConfigError, match="no such action"):
        list(workers.run(Refuser, [1, 2], processes))


def test_the_report(tmp_path):
    evaluated(tmp_path)
    page = verdict.page(Evaluation.open(tmp_path)).write(tmp_path)
    assert "1 of 4 (25 %, 95 % interval 5 to 70 %)" in page.read_text()
    assert page.read_text().count("data:image/webp") == 2
    assert 'alt="task 2, trial 0: success; instruction: go right"' in page.read_text()
    numbers = json.loads((tmp_path / "report.json").read_text())["numbers"]
    assert (numbers["successes"], numbers["trials"], numbers["complete"]) == (1, 4, True)


def test_the_report_links_to_the_page_of_its_run(tmp_path):
    for card in ("run/checkpoints/step-000004", "run", "localhost:8000"):
        run, out = tmp_path / "run", tmp_path / card.replace("/", "-").replace(":", "-")
        Report("A training").write(run)
        policy = card if ":" in card else str(tmp_path / card)
        evaluation = Evaluation(out.with_suffix(".eval"), {**CARD, "policy": policy})
        evaluation.begin()
        page = verdict.page(evaluation).write(evaluation.path)
        assert ('href="../run/report.html"' in page.read_text()) == (":" not in card)
        assert (evaluation.path.name in (run / "report.html").read_text()) == (":" not in card)


def test_a_page_has_the_videos_that_fit(tmp_path, monkeypatch):
    evaluated(tmp_path)
    size = len(Evaluation.open(tmp_path).videos()[0].read_bytes())
    monkeypatch.setattr(verdict, "VIDEO_BYTES", size)
    page = verdict.page(Evaluation.open(tmp_path)).write(tmp_path).read_text()
    assert page.count("data:image/webp") == 1
    assert "1 more videos are in <code>" in page


def test_headlines_name_the_tasks_and_unusual_limits():
    tasks = dict.fromkeys(["0", "1", "2", "10", "8"], "do")
    card = {"suite": "libero_goal", "tasks": tasks, "max_steps": 300}
    assert verdict.measured(card) == "libero_goal, tasks 0-2, 8, 10"
    card = {"suite": "libero_goal", "tasks": {"8": "do"}, "max_steps": 600}
    assert verdict.measured(card) == "libero_goal, task 8, at most 600 steps instead of 300"


@pytest.mark.parametrize(
    ("limits", "usual"),
    [
        ({"8": 220, "38": 520}, "220 to 520, by task"),
        ({"8": 220}, 220),
        ({}, "as many as its task allows"),  # of an earlier version
    ],
)
def test_limits_that_are_the_tasks_own_are_told(tmp_path, limits, usual):
    asked = {**CARD, "suite": "libero_plus_camera", "max_steps": 0}
    Evaluation(tmp_path, asked).begin()
    card = {**asked, "step_limits": limits} if limits else asked
    Evaluation(tmp_path, card).begin()  # goes on
    assert verdict.measured(card) == "libero_plus_camera, task 2"
    assert in_words(card, ["max_steps"]) == {"most steps of a trial": usual}
    fewer = verdict.measured({**card, "max_steps": 150})
    assert fewer == f"libero_plus_camera, task 2, at most 150 steps instead of {usual}"


def test_no_unit_of_another_benchmark_is_named():
    """A full action is 5 cm in LIBERO, and 1 cm in Meta-World."""
    helps = [get_type_hints(c, include_extras=True) for c in (CollectConfig, EvalConfig)]
    texts = [WORDS["action_noise"], str(helps[0]["noise"]), str(helps[1]["action_noise"])]
    assert [text for text in texts if re.search(r"\d c?m\b", text)] == []


@pytest.mark.parametrize(("only_b", "told"), [(5, True), (6, False), (0, False)])
def test_where_test_and_interval_disagree_the_test_decides(only_b, told):
    figures = {"a": "a", "b": "b", **verdict._counts(Paired(20, 0, only_b, 25))}
    assert ("the test decides" in verdict.comparison_lines(figures)[-1]) == told


def test_comparing_trial_by_trial(tmp_path):
    evaluated(tmp_path / "a", 0.12)
    evaluated(tmp_path / "b", 0.14, JOBS[:3])
    a, b = (Evaluation.open(tmp_path / name) for name in "ab")
    figures = verdict.compared(a, b)
    assert (figures["trials"], figures["successes_a"], figures["successes_b"]) == (3, 1, 3)
    assert (figures["only_a"], figures["only_b"]) == (0, 2)
    assert figures["p_value"] == 0.5
    assert "these trials show no difference" in verdict.comparison_lines(figures)[-1]
    words = ["compare", tmp_path / "a", tmp_path / "b", "--out", tmp_path, "--json"]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert json.loads(result.stdout) == json.loads(json.dumps(figures))
    (table,) = [
        s
        for s in json.loads((tmp_path / "compare.json").read_text())["sections"]
        if s["kind"] == "table"
    ]
    assert [row[:6] for row in table["rows"]] == [["all", 3, 1, 3, 0, 2], ["2", 3, 1, 3, 0, 2]]


def test_other_trials_cannot_be_compared(tmp_path):
    evaluated(tmp_path / "a")
    other = Evaluation(tmp_path / "b", {**CARD, "seed": 8})
    other.begin()
    with pytest.raises(ConfigError, match="seed differs: 7"):
        verdict.compared(Evaluation.open(tmp_path / "a"), other)


@pytest.mark.parametrize(
    "plans",
    [{"config": {"model": {"chunk": 8}}}, {"says": {"action_horizon": 8, "name": "tiny"}}],
    ids=["run", "server"],
)
def test_a_plan_has_no_more_steps_than_are_in_it(tmp_path, plans):
    """A card of an earlier version says what was asked for."""
    older = Evaluation(tmp_path / "a", {**CARD, **plans, "replan_steps": 16})
    older.begin()
    assert Evaluation.open(older.path).card["replan_steps"] == 8
    now = {**CARD, **plans, "replan_steps": 8}
    assert as_carried_out(older.card) == as_carried_out(now) == now
    Evaluation(older.path, now).begin()  # goes on
    fewer = {**now, "replan_steps": 3}
    assert as_carried_out(fewer) == fewer
    with pytest.raises(StaleStore, match="--set replan_steps"):
        Evaluation(older.path, fewer).begin()


FORGED = (None, 3, -1, "x", [], [1], {}, {"a": 1}, 10**30, 0.5, True)


@pytest.mark.parametrize("name", ["eval.json", "trials/task-02-trial-000.json"])
def test_what_was_not_written_by_eval_is_refused(tmp_path, name):
    evaluated(tmp_path)
    file = tmp_path / name
    written = json.loads(file.read_text())
    for key in written:
        for value in (*FORGED, "gone"):
            forged = {k: v for k, v in written.items() if k != key}
            file.write_text(json.dumps(forged if value == "gone" else {**forged, key: value}))
            read_or_refused(tmp_path)
    for data in (b"", b"{", b"[1]", b"null", b"\xff", b"[" * 100_000):
        file.write_bytes(data)
        assert not read_or_refused(tmp_path)
    file.write_text(json.dumps({**written, "task": 7} if "trial" in name else {"suite": "x"}))
    assert not read_or_refused(tmp_path)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(NotAFile, match="named pipe"):
        _ = Evaluation.open(tmp_path).outcomes


def test_a_video_that_is_none_is_refused(tmp_path):
    evaluated(tmp_path)
    film = Evaluation.open(tmp_path).videos()[0]
    film.write_bytes(film.read_bytes()[:40])
    assert not read_or_refused(tmp_path)
    film.unlink()
    os.mkfifo(film)
    with pytest.raises(NotAFile, match="named pipe"):
        verdict.page(Evaluation.open(tmp_path))


def read_or_refused(path) -> bool:
    """Whether all commands read it; those that do not refuse it."""
    try:
        evaluation = Evaluation.open(path)
        verdict.page(evaluation)
        verdict.compared(evaluation, evaluation)
        inspect(path)
    except DepthtokError as error:
        return not error.remedy
    return True


def test_every_trial_has_a_seed_of_its_own():
    seeds = {
        TASK.seed(purpose, run, k)
        for purpose in ("eval", "collect")
        for run in (0, 1)
        for k in range(5)
    }
    assert len(seeds) == 20
    assert TASK.seed("eval", 0, 1) == TASK.seed("eval", 0, 1)
