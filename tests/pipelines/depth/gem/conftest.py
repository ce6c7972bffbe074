"""Networks and reference outputs that the tests of this folder share."""

import pytest

from tests.pipelines.depth.conftest import outputs
from tests.pipelines.depth.gem.made import config_of, loaded
from tests.pipelines.depth.vida import recipe


@pytest.fixture(scope="session")
def golden():
    """Reference outputs by file name: `golden("infer_vits.npz")`, `golden("weights.json")`."""
    return outputs("gem_golden")


@pytest.fixture(scope="session")
def weights(golden):
    """The weights that the reference outputs of the small network were made with."""
    return recipe.state_dict(golden("schema_vits.json"), seed=4)


@pytest.fixture(scope="session")
def networks(weights):
    """The small network by variant: with poses, and without."""
    return {name: loaded(config_of("vits", pose=name == "on"), weights) for name in ("on", "off")}
