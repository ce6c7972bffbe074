"""Errors of predicted codes beside the outcomes of trials: who foretells, who does not."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.ablate.foretelling import Foretelling, foretellings
from pipelines.ablate.seed_result import SeedResult
from pipelines.ablate.study_page import ClosedLoop
from vla.evaluation.ablation import RunFigures
from vla.named_configs import load

MEASURE = "early_disparity_error"


def result(seed, errors, won, preset="tiny", tasks=None):
    tasks = tasks or [8] * len(won)
    trials = {
        f"task-{tasks[k]:02d}-trial-{k:03d}": {
            "success": bool(success),
            "steps": 9,
            MEASURE: float(error),
        }
        for k, (error, success) in enumerate(zip(errors, won, strict=True))
    }
    figures = RunFigures({}, "", "", "")
    config = load(preset).to_json()
    rest = {"data": "", "codes": {}, "weights": {}, "version": "0", "cpu_s": {}}
    return SeedResult("arm", seed, config, {}, figures, {}, trials, **rest)


def test_an_area_and_rates_by_hand():
    """Lost trials have the errors 3 and 5: of the ten pairs with won ones 9 are larger."""
    won = [True, True, False, True, False, True, True]
    errors = [1, 2, 3, 4, 5, 0.5, 2.5]
    foretelling = Foretelling.of("arm", MEASURE, [result(0, errors, won)])
    assert foretelling.areas == (pytest.approx(9 / 10),)
    # in ascending order: 0.5 1 | 2 2.5 | 3 | 4 | 5
    assert [rate.mean for rate in foretelling.rates] == [1, 1, 0, 1, 0]
    assert "was not tested: 1 training(s)" in foretelling.told()
    ties = Foretelling.of("arm", MEASURE, [result(0, [1] * 7, won)])
    assert ties.areas == (0.5,)


def test_trials_of_two_tasks_are_not_compared():
    """The harder task has the larger errors: that foretells nothing of a trial."""
    errors = [1, 2, 3, 4, 5, 11, 12, 13, 14, 15]
    won = [True, True, False, True, True, False, True, False, False, False]
    one = Foretelling.of("arm", MEASURE, [result(0, errors, won, tasks=[3] * 5 + [4] * 5)])
    # of 4 pairs in either task: 2 (3 is above 1 and 2), and 3 (13, 14, 15 are above 12)
    assert one.areas == (5 / 8,)
    assert [rate.mean for rate in one.rates] == [0.5, 1, 0, 0.5, 0.5]
    apart = result(0, errors, [True] * 5 + [False] * 5, tasks=[3] * 5 + [4] * 5)
    assert Foretelling.of("arm", MEASURE, [apart]).areas == ()


def drawn(seed, foretells, trials=40):
    rng = np.random.default_rng(seed)
    errors = rng.random(trials)
    return result(seed, errors, rng.random(trials) > (errors if foretells else 0.5))


def test_words_and_rows_over_trainings():
    sure = Foretelling.of("arm", MEASURE, [drawn(seed, True) for seed in range(8)])
    assert "it foretells failure" in sure.told()
    rows = sure.rows()
    assert rows[0][1] > 70 > 30 > rows[-1][1]
    assert all(0 <= low <= estimate <= high <= 100 for _, estimate, low, high in rows)
    chance = Foretelling.of("arm", MEASURE, [drawn(seed, False) for seed in range(8)])
    assert "that it foretells anything is not shown" in chance.told()
    assert abs(np.mean(chance.areas) - 0.5) < 0.1


def test_trials_without_the_figure_are_left_out():
    """As `early_own_error` of those that end within the first plans."""
    errors, won = [1, 2, 3, 4, 5, 6], [True, True, False, True, False, True]
    measured = result(0, errors, won)
    first, second = [*measured.trials][:2]
    trials = {name: dict(trial) for name, trial in measured.trials.items()}
    del trials[first][MEASURE]
    lacking = Foretelling.of("arm", MEASURE, [replace(measured, trials=trials)])
    assert lacking.areas == Foretelling.of("arm", MEASURE, [result(0, errors[1:], won[1:])]).areas
    trials[second][MEASURE] = None
    assert Foretelling.of("arm", MEASURE, [replace(measured, trials=trials)]) is None  # four


def test_only_arms_that_were_taught_true_codes():
    true, wrong = drawn(0, True), replace(drawn(0, True), codes={"set": {"kind": "shuffled"}})
    untaught = result(0, range(5), [True, False] * 2 + [True], "tiny+no-depth-loss")
    unmeasured = replace(true, trials={"task-08-trial-000": {"success": True, "steps": 9}})
    arms = {"true": [true], "wrong": [wrong], "none": [untaught], "unmeasured": [unmeasured]}
    assert [one.arm for one in foretellings(arms)] == ["true"]
    page = ClosedLoop({"true": [true, drawn(1, True)]}, []).to_json()
    assert [one["arm"] for one in page["foretold"]] == ["true"]
    assert any("chance is 50" in line for line in page["told"])
