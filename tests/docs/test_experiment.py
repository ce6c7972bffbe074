"""The registered experiment: its file says what its page says."""

import re
from pathlib import Path

import pytest

from depthtok.api.study import Study
from depthtok.config import flat, load_toml
from pipelines.ablate.power import power

DOCS = Path(__file__).parents[2] / "docs"
PILOT_SEEDS, LOOK = {0, 1}, 16


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


def test_the_table_of_power_is_that_of_the_model(page):
    rows = re.findall(r"^\| (16|32) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", page, re.MULTILINE)
    assert [int(row[0]) for row in rows] == [16, 32]
    for seeds, *points in rows:
        for tau, smallest in zip((0.03, 0.06, 0.09, 0.12), points, strict=True):
            assert power(int(seeds), int(smallest) / 100, tau, 50, 0.5) >= 0.8
            assert power(int(seeds), int(smallest) / 100 - 0.01, tau, 50, 0.5) < 0.8
