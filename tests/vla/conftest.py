"""The micro model and its data, as fixtures."""

import fakes
import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Before the trainings of module fixtures too: their bits depend on the number of threads."""
    torch.set_num_threads(1)


@pytest.fixture
def micro():
    """Makes the micro configuration, with overrides."""
    return fakes.micro


@pytest.fixture
def codebook():
    return fakes.FakeCodebook(codes=16, dim=12)


@pytest.fixture
def toy():
    """Makes a data set for a configuration."""
    return fakes.toy
