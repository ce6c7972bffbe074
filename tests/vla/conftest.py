"""The micro model and its data, as fixtures."""

import threading

import pytest
import torch

from tests.vla import clients, fakes
from vla.run_options import TrainingOptions
from vla.serving.policy import Policy
from vla.training.train import train


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


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    """The run of a policy that is served."""
    out, config = tmp_path_factory.mktemp("served"), fakes.micro(train__steps=1)
    book = fakes.FakeCodebook(codes=16, dim=12)
    train(config, fakes.toy(config), out, TrainingOptions(loader_threads=0), codebook=book)
    return out


@pytest.fixture
def serve(served):
    """Starts servers; gives their port."""
    from vla.serving.server import make_server

    servers = []

    def start(batch=1, **options):
        server = make_server(Policy.load(served, batch=batch), port=0, **options)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        servers.append((server, thread))
        return server.socket.getsockname()[1]

    yield start
    clients.close_all()
    for server, thread in servers:
        server.shutdown()
        thread.join()
