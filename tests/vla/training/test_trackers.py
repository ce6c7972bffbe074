"""Logs that need a package which is not there. TensorBoard itself: tests/tensorflow."""

import sys
from types import SimpleNamespace

import pytest

from depthtok.errors import MissingPackage
from vla.run_options import TrainingOptions
from vla.training.trackers import open_tracker
from vla.training.train import train


@pytest.mark.parametrize(
    ("name", "module"), [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb")]
)
def test_packages_that_are_not_there_are_named(tmp_path, monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPackage, match=name) as caught:
        open_tracker(name, tmp_path, 0, {})
    assert f"depthtok[{name}]" in caught.value.remedy


class OneRun:
    """As W&B is: while a run is open, `init` gives that one again, whatever is asked for."""

    def __init__(self):
        self.open, self.lines = None, []

    def init(self, name, **_):
        self.open = self.open or name
        return SimpleNamespace(log=self.log, finish=self.finish)

    def log(self, values, step):
        self.lines.append((self.open, step))

    def finish(self):
        self.open = None


def test_a_second_training_of_a_process_is_a_run_of_its_own(
    micro, toy, codebook, tmp_path, monkeypatch
):
    wandb, config = OneRun(), micro(train__steps=1)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    options = TrainingOptions(loader_threads=0, trackers=("wandb",))
    for name in ("first", "second"):
        train(config, toy(config), tmp_path / name, options, codebook=codebook)
    assert wandb.lines == [("first", 1), ("second", 1)]
    assert wandb.open is None
