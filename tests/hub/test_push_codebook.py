"""push: a codebook to the stand-in Hub by the real client, and back by its name."""

import pytest

import depthtok
from depthtok.stores.codebook import Codebook
from tests.commands.trainings import DEMO

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")  # the client's


def test_there_and_back(hub, tmp_path):
    pushed = depthtok.push(DEMO, "lab/book")
    assert pushed.what == "codebook"
    files = hub.files("models/lab/book")
    assert set(files) == {"README.md", "codebook.json", "codebook.safetensors"}
    book = Codebook.load("hf://lab/book")
    assert book.fingerprint == Codebook.load(DEMO).fingerprint
    again = depthtok.push(DEMO, "lab/book")
    assert (again.kept, again.files, again.commits, again.bytes) == (3, 3, 0, 0)
    assert again.url == pushed.url
