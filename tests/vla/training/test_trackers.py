"""Logs that need a package which is not there. TensorBoard itself: tests/tensorflow."""

import sys

import pytest

from depthtok.errors import MissingPackage
from vla.training.trackers import open_tracker


@pytest.mark.parametrize(
    ("name", "module"), [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb")]
)
def test_packages_that_are_not_there_are_named(tmp_path, monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPackage, match=name) as caught:
        open_tracker(name, tmp_path, 0, {})
    assert f"depthtok[{name}]" in caught.value.remedy
