"""Networks and reference outputs that the tests of this folder share."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.pipelines.depth.gem.made import config_of, loaded
from tests.pipelines.depth.vida import recipe

GOLDEN = Path(__file__).parents[3] / "data" / "gem_golden"


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small tensors: threads only get in each other's way."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def golden():
    """Reference outputs by file name: `golden("infer_vits.npz")`, `golden("weights.json")`."""

    def load(name):
        path = GOLDEN / name
        return json.loads(path.read_text()) if path.suffix == ".json" else np.load(path)

    return load


@pytest.fixture(scope="session")
def weights(golden):
    """The weights that the reference outputs of the small network were made with."""
    return recipe.state_dict(golden("schema_vits.json"), seed=4)


@pytest.fixture(scope="session")
def networks(weights):
    """The small network by variant: with poses, and without."""
    return {name: loaded(config_of("vits", pose=name == "on"), weights) for name in ("on", "off")}
