"""Normalisation: there and back, constant columns, grippers."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from depthtok.errors import ConfigError
from vla.data.normalise import Norms, Scale

COLUMNS = SimpleNamespace(
    min=[-2.0, 0.0, 5.0, 0.0], max=[2.0, 10.0, 5.0, 1.0], q01=[-1.0, 1, 5, 0], q99=[1.0, 9, 5, 1]
)


def test_bounds_there_and_back():
    scale = Scale.of(COLUMNS, "bounds", keep=(-1,))
    values = np.array([[-2, 5, 5, 1], [2, 10, 5, 0]], np.float32)
    scaled = scale.apply(values)
    assert scaled.dtype == np.float32
    assert scaled.tolist() == [[-1, 0, 0, 1], [1, 1, 0, 0]]
    assert scale.undo(scaled).tolist() == values.tolist()


def test_quantiles_clip_outliers():
    scaled = Scale.of(COLUMNS, "q99").apply(np.array([-2.0, 5, 5, 1], np.float32))
    assert scaled.tolist() == [-1, 0, 0, 1]


def test_json():
    scale = Scale.of(COLUMNS, "bounds", keep=(-1,))
    norms = Norms(scale, Scale.of(COLUMNS, "q99"))
    assert Norms.from_json(json.loads(json.dumps(norms.to_json()))) == norms


def test_a_gripper_that_is_not_there():
    with pytest.raises(ConfigError, match="gripper"):
        Scale.of(COLUMNS, "bounds", keep=(4,))
