"""Every kind of suite, headless, from the command line: one trial each."""

import json

import pytest

from benchmarks.eval_rate import policy
from depthtok.errors import ConfigError
from pipelines.evaluate import verdict
from pipelines.evaluate.trials import Evaluation
from pipelines.sim import setup, suites
from tests.commands.trainings import call

SHORT = ["--trials", 1, "--size", 32, "--max-steps", 6, "--videos", 0, "--device", "cpu"]
UNKNOWN = ["--gripper", "open-1_closed1", "--accept", "action.names", "--accept", "proprio.names"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A policy with random weights and one camera."""
    if problem := setup.missing():
        pytest.skip(f"the simulator cannot run: {problem}")
    run_path = tmp_path_factory.mktemp("random") / "run"
    policy(run_path, 1)
    return run_path


@pytest.mark.parametrize(
    ("suite", "task", "variation"),
    [
        ("libero_plus_camera", 28, "view "),
        ("libero_plus_robot", 28, "start "),
        ("libero_plus_noise", 28, "noise "),
        ("libero_plus_language", 28, "wording "),
        ("libero_object_swap", 1, ""),
    ],
)
def test_a_trial_of_each(run, tmp_path, suite, task, variation):
    told = call(
        "eval",
        run,
        "--suite",
        suite,
        "--tasks",
        task,
        *SHORT,
        *UNKNOWN,
        "--out",
        tmp_path,
        "--json",
    )
    figures = json.loads(told)
    assert (figures["trials"], figures["complete"]) == (1, True)
    evaluation = Evaluation.open(tmp_path)
    (outcome,), card = evaluation.outcomes, evaluation.card
    assert (outcome.steps, outcome.plans) == (6, 2)
    assert outcome.variation.startswith(variation)
    assert card.get("step_limits", {}) == ({str(task): 300} if variation else {})
    assert card.get("variations", {str(task): [""]}) == {str(task): [outcome.variation]}
    assert card["different_states"] == {str(task): 1}
    assert card["chosen_by"] == "the newest of its run"
    assert [row["group"] for row in figures.get("groups", [])] == [outcome.group] * bool(variation)


def test_drawn_views_and_starts_and_other_protocols(run, tmp_path):
    words = [
        "--set",
        "views=orbit 15:30",
        "--set",
        "starts=0.1:0.2",
        "--set",
        "settle_steps=12",
        "--set",
        "action_noise=0.1",
        "--set",
        "chosen_by=held-out loss",
    ]
    command = ["eval", run, "--suite", "libero_goal", "--tasks", 8, *SHORT, *UNKNOWN]
    call(*command, *words, "--out", tmp_path / "a")
    evaluation = Evaluation.open(tmp_path / "a")
    (outcome,) = evaluation.outcomes
    assert outcome.variation.startswith("view ")
    assert ", start seed " in outcome.variation
    assert evaluation.card["chosen_by"] == "the newest of its run, by held-out loss"
    assert evaluation.card["settle_steps"] == 12
    assert verdict.compared(evaluation, evaluation)["protocol"]["action_noise"] == 0.1
    other = Evaluation(tmp_path / "b", {**evaluation.card, "views": ""})
    other.begin()
    with pytest.raises(ConfigError, match="views differs: orbit 15:30"):
        verdict.compared(evaluation, other)


def test_all_complete_suites_of_the_package_are_there():
    pytest.importorskip("libero")
    counts = {name: len(suites.tasks(name)) for name in suites.SUITES}
    assert len(counts) == 33 + 4
    assert sum(counts.values()) == 389 + 4 * 40
    for name in counts:
        task = suites.task(name, 0)
        states = suites.init_states(task)
        assert len(states) == (50 if name.startswith("libero_plus") else task.init_states)


def test_instructions_are_those_of_the_goal():
    pytest.importorskip("libero")
    said = {
        suite: suites.task(suite, 1).instruction
        for suite in ("libero_goal", "libero_goal_swap", "libero_goal_lan", "libero_goal_task")
    }
    assert said == {
        "libero_goal": "put the bowl on the stove",
        "libero_goal_swap": "put the bowl on the stove",
        "libero_goal_lan": "place the bowl on the stove",
        "libero_goal_task": "Put the plate on the stove",
    }
