"""Networks and clips that the tests of this folder share."""

from __future__ import annotations

import pytest

from pipelines.depth.vida.config import CONFIGS
from pipelines.depth.vida.network import VideoDepth
from tests.pipelines.depth.conftest import outputs
from tests.pipelines.depth.vida import recipe


@pytest.fixture(scope="session")
def golden():
    """Reference outputs by file name: `golden("infer_vits.npz")`, `golden("plan.json")`."""
    return outputs("vida_golden")


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
