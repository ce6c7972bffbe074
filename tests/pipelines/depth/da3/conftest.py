"""Networks that the tests of this folder share."""

from __future__ import annotations

from functools import lru_cache

import pytest

from pipelines.depth.da3.config import CONFIGS, VITS
from pipelines.depth.da3.network import DA3
from tests.pipelines.depth.conftest import outputs
from tests.pipelines.depth.vida import recipe

NETWORKS = {"mono-vits": VITS} | {
    name: CONFIGS[f"da3-{name}"] for name in ("small", "base", "mono-large")
}


@pytest.fixture(scope="session")
def golden():
    """Reference outputs by file name: `golden("da3_stages.npz")`, `golden("da3_sizes.json")`."""
    return outputs("da3_golden")


@pytest.fixture(scope="session")
def official(golden):
    """The weights of a reference network, by their official names."""
    return lambda name: recipe.state_dict(golden(f"schema_da3_{name}.json"), seed=4)


@pytest.fixture(scope="session")
def network_of(official):
    """A reference network with those weights, not to be changed; with `shrink`, small enough to
    show each epsilon."""

    @lru_cache(maxsize=2)  # a large one takes more than a gigabyte
    def build(name: str, *, shrink: bool = False) -> DA3:
        weights = official(name)
        weights = recipe.shrink(weights, recipe.ALL_NORMS) if shrink else weights
        network = DA3(NETWORKS[name]).eval()
        names = network.state_dict()
        network.load_state_dict({key: weights[f"model.{key}"] for key in names})
        return network

    return build
