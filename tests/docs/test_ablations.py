"""The studies in docs/ablations/: each loads, its arms can be told apart, and it plans."""

from pathlib import Path

import pytest

import depthtok
from depthtok.api.ablate import Study
from depthtok.config import load_toml

FOLDER = Path(__file__).parents[2] / "docs" / "ablations"
ARMS = {
    "controls": 7,
    "future": 3,
    "estimated-depth": 2,
    "targets": 4,
    "masks": 4,
    "other-codebook": 2,
    "demonstrations": 6,
}
ONE_SETTING = {
    "controls": {"data.depth_codes", "model.depth.target", "model.depth.expert"},
    "future": {"model.depth.future"},
    "estimated-depth": set(),
    "targets": {"model.depth.target"},
    "masks": {"model.mask"},
    "other-codebook": set(),
    "demonstrations": {"data.depth_codes", "data.demonstrations"},
}


def test_every_study_is_known():
    assert {path.stem for path in FOLDER.iterdir()} == set(ARMS)


@pytest.mark.parametrize("name", ARMS)
def test_a_study_loads_and_differs_in_what_it_asks(name):
    from depthtok.config import flat

    study = Study.read(load_toml(FOLDER / f"{name}.toml"), name)
    assert len(study.variants) == ARMS[name]
    arguments = [arguments for _, arguments in study.trainings()][: ARMS[name]]
    settings = [flat(a["settings"].to_json()) for a in arguments]
    differ = {key for s in settings for key in s if s[key] != settings[0][key]} - {"name"}
    assert differ == ONE_SETTING[name]
    told_apart = {
        str(({**s, "name": ""}, a["stores"])) for s, a in zip(settings, arguments, strict=True)
    }
    assert len(told_apart) == ARMS[name]
    assert study.playing["trials"] == 2


@pytest.mark.parametrize("name", ARMS)
def test_a_study_plans_and_says_that_it_answers_nothing(name):
    path = FOLDER / f"{name}.toml"
    assert "answer nothing" in path.read_text()
    plan = depthtok.ablate(path, plan=True, difference=10)
    assert (plan.arms, plan.seeds, plan.trials) == (ARMS[name], 2, 2)
    assert "This study (2 seeds, 2 trials" in plan.words()[-1]
    assert not (Path("runs") / name).exists()


def test_every_control_is_a_preset_of_its_name():
    study = Study.read(load_toml(FOLDER / "controls.toml"), "controls")
    assert {name: v.preset for name, v in study.variants.items()} == {
        name: f"tiny+{name}" for name in study.variants
    }
    assert study.compare[0] == ("true-codes", "shuffled-codes")
