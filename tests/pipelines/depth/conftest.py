"""What the tests of depth networks share."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """Small tensors: threads only get in each other's way."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def outputs(folder: str):
    """The reference outputs in a folder of `tests/data`, by file name: arrays, or JSON."""

    def load(name: str):
        path = DATA / folder / name
        return json.loads(path.read_text()) if path.suffix == ".json" else np.load(path)

    return load
