"""Which device is chosen."""

import pytest
import torch

from depthtok.config import RunOptions
from depthtok.errors import ConfigError
from pipelines.device import choose, choose_for
from pipelines.ray.cluster import address_of


@pytest.mark.parametrize("gpus", [0, 1])
@pytest.mark.parametrize("name", ["cuda:x", "cuda:", "cuda:-1", "gpu", "cpu:0", ""])
def test_what_is_no_device_is_refused_with_and_without_a_gpu(name, gpus, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(ConfigError, match="`device` cannot be"):
        choose(name)


def test_an_address_that_is_set_to_nothing_is_none(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert address_of(None) is None
    assert choose_for(RunOptions(workers=1)) == "cpu"
