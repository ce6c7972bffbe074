"""The registered experiment: its file says what its page says."""

import math
import re
from pathlib import Path

import pytest

from depthtok.api.study import Study
from depthtok.config import flat, load_toml
from pipelines.ablate.power import power
from pipelines.ablate.student import beyond, limit_of

DOCS = Path(__file__).parents[2] / "docs"
PILOT_SEEDS, LOOK = {0, 1}, 16
TAUS = 0.03, 0.06, 0.09, 0.12


@pytest.fixture(scope="module")
def study():
    return Study.read(load_toml(DOCS / "experiment" / "study.toml"), "study")


@pytest.fixture(scope="module")
def page():
    return (DOCS / "experiment.md").read_text()


def test_arms_differ_in_what_depth_teaches_alone(study):
    assert [*study.variants] == ["true-codes", "shuffled-codes", "no-depth-loss"]
    assert study.compare[0] == ("true-codes", "shuffled-codes")
    settings = [flat(a["settings"].to_json()) for _, a in study.trainings()[:3]]
    differ = {key for s in settings for key in s if s[key] != settings[0][key]} - {"name"}
    assert differ == {"data.depth_codes", "model.depth.target"}
    assert all(s["train.fast_cpu"] and s["train.ema"] == 0.999 for s in settings)
    assert {s["train.steps"] for s in settings} == {4000}
    assert {s["train.batch"] for s in settings} == {16}
    assert {s["model.depth.target_odds"] for s in settings} == {0}  # hard, as registered


def test_seeds_are_those_of_the_page_and_none_of_the_pilot(study, page):
    assert study.seeds == tuple(range(100, 132))
    assert not PILOT_SEEDS & set(study.seeds)
    assert "100 to 131" in page
    assert study.first(LOOK).seeds[-1] == 115
    assert "seeds 100 to 115" in page


def test_trials_are_those_of_the_page(study):
    playing = study.played(Path("run"), "codes")["settings"]
    assert (playing.suite, playing.tasks, playing.trials) == ("libero_goal", "8", 50)
    assert (playing.seed, playing.replan_steps, playing.settle_steps) == (7, 5, 10)
    assert (playing.max_steps, playing.action_noise) == (0, 0)
    assert playing.views


def test_results_are_kept_beside_the_study(study):
    assert study.results == Path("docs/experiment/results")
    assert study.out == Path("runs/experiment")


def finds(seeds, points, tau, freedom):
    """The chance to find a difference with 50 trials and success near 50 %."""
    error = math.sqrt(2 / seeds * (tau**2 + 0.25 / 50))
    return beyond(limit_of(0.05, freedom), freedom, points / 100 / error)


def test_the_table_of_power_is_that_of_a_test_of_two_samples(page):
    """As it was registered."""
    rows = re.findall(r"^\| (16|32) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", page, re.MULTILINE)
    assert [int(row[0]) for row in rows] == [16, 32]
    for row in rows:
        seeds, *points = map(int, row)
        for tau, smallest in zip(TAUS, points, strict=True):
            assert finds(seeds, smallest, tau, 2 * (seeds - 1)) >= 0.8
            assert finds(seeds, smallest - 1, tau, 2 * (seeds - 1)) < 0.8


def test_what_the_paired_test_finds_is_said(page):
    text = " ".join(page.split())
    rows = re.findall(r"(\d+), (\d+), (\d+) and (\d+) points with (16|32) seeds", text)
    assert [int(row[-1]) for row in rows] == [16, 32]
    for row in rows:
        *points, seeds = map(int, row)
        for tau, smallest in zip(TAUS, points, strict=True):
            assert power(seeds, smallest / 100, tau, 50, 0.5) >= 0.8
            assert power(seeds, smallest / 100 - 0.01, tau, 50, 0.5) < 0.8
    exact = re.findall(r"(16|32) seeds find (\d+\.\d) points rather than (\d+\.\d)", text)
    for seeds, paired, two in exact:
        for points, freedom in ((paired, int(seeds) - 1), (two, 2 * (int(seeds) - 1))):
            assert finds(int(seeds), float(points), 0.09, freedom) == pytest.approx(0.8, abs=0.005)
    assert len(exact) == 2
