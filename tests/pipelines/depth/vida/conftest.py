"""Networks and clips that the tests of this folder share."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.depth.vida.config import CONFIGS
from pipelines.depth.vida.network import VideoDepth
from tests.pipelines.depth.vida import recipe

GOLDEN = Path(__file__).parents[3] / "data" / "vida_golden"


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small tensors: threads only get in each other's way."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def golden():
    """Reference outputs by file name: `golden("infer_vits.npz")`, `golden("plan.json")`."""

    def load(name: str):
        path = GOLDEN / name
        return json.loads(path.read_text()) if path.suffix == ".json" else np.load(path)

    return load


@pytest.fixture(scope="session")
def vits_weights(golden):
    """The weights that the reference outputs were made with."""
    return recipe.state_dict(golden("schema_vits.json"), seed=4)


@pytest.fixture(scope="session")
def vits(vits_weights):
    """The small network with those weights."""
    network = VideoDepth(CONFIGS["vits"]).eval()
    network.load_state_dict(vits_weights, strict=True)
    return network
