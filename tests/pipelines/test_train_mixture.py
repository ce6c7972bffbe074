"""Stores of two data sets with cameras of other names, joined by a mixture."""

from dataclasses import replace

import pytest

from depthtok.config import RunOptions
from depthtok.errors import ConfigError
from depthtok.sources.rlds import RldsDirectory
from pipelines.config import ConvertConfig
from pipelines.convert.stage import ConvertStage
from pipelines.run import run
from pipelines.train_vla import checks, samples
from pipelines.train_vla.inputs import Stores
from pipelines.train_vla.stores import OpenStores
from tests.depthtok.sources.oxe import STEPS, TRUE, written
from tests.vla.fakes import micro
from vla.training.checkpoint import TrainingState

NAMES = ("roboturk", "viola")


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """The EpisodeStores of both."""
    root = tmp_path_factory.mktemp("mixture")
    for name in NAMES:
        source = written(root / name / "0.1.0", name, TRUE[name])
        stage = ConvertStage(RldsDirectory.open(source), root / f"{name}.store", ConvertConfig())
        assert run(stage, RunOptions()).exit_code == 0
    return tuple(root / f"{name}.store" for name in NAMES)


def config():
    return micro(
        model__depth__expert=False,
        model__proprio_dim=0,
        model__cameras=1,
        data__cameras=(),
        data__mix=("fps", "action.names", "action.reference", "action.unit"),
    )


def joined(stated, begun=None):
    opened = OpenStores.of(config(), stated)
    settings = samples.fit(config(), opened, None)
    weights = stated.sampling_weight
    learn, _ = samples.datasets(settings, opened, weights, 0.0, partial=False, begun=begun)
    return settings, learn


def test_a_mixture_states_weights_and_cameras(stores):
    settings, data = joined(Stores(stores, mixture="magic-soup-plus"))
    assert settings.data.cameras == ("primary",)
    assert [member.weight for member in data.members] == [2.0, 2.0]
    assert [member.cameras for member in data.members] == [("front_rgb",), ("agentview_rgb",)]
    assert len(data) == 2 * 2 * 2 * STEPS  # both drawn twice an epoch


def test_without_a_mixture_the_names_must_be_the_same(stores):
    with pytest.raises(ConfigError, match="viola has no camera 'front_rgb'"):
        joined(Stores(stores))


def test_weights_are_stated_once(stores):
    with pytest.raises(ConfigError, match="sampling_weight and mixture both"):
        joined(Stores(stores, sampling_weight=(1.0, 2.0), mixture="magic-soup-plus"))


def test_a_run_goes_on_by_the_rule_it_was_begun_with(stores):
    """One of a former version, whose state has none, drew the first steps of the store."""
    stated = Stores(stores[:1], sampling_weight=(0.5,))
    _, new = joined(stated)
    state = TrainingState(0, new.norms())
    _, before = joined(stated, state)
    noted = checks.notes(new, None, None, None)
    _, again = joined(stated, replace(state, notes=noted))
    drawn = [[data.place(n) for n in range(len(data))] for data in (new, before, again)]
    assert drawn[0] == drawn[2] != drawn[1]
    assert drawn[1][0] == (0, 0, 0)
    assert checks.notes(before, None, None, state)["drawn"] == ""
