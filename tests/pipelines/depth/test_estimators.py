import pytest

from depthtok.data import DepthKind
from depthtok.errors import ConfigError
from pipelines import config
from pipelines.depth.registry import ESTIMATORS, find


def test_every_estimator_says_what_it_is():
    for name, entry in ESTIMATORS.items():
        metres = name == "dataset" or "metric-" in name
        assert (entry.kind is DepthKind.METRES) == metres
        assert entry.licence
        assert entry.input_size % 14 == 0
        assert bool(entry.notice) == ("NC" in entry.licence)


def test_help_names_them_all():
    assert tuple(ESTIMATORS) == config.ESTIMATORS


def test_an_unknown_name_says_which_are_known():
    with pytest.raises(ConfigError, match="vitz") as caught:
        find("vitz")
    assert "vit" in caught.value.remedy
