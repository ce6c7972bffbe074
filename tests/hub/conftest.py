"""The stand-in Hub, and a client that speaks to it alone."""

import importlib
import os

import pytest

import depthtok
from depthtok.testing import make_rlds
from tests.commands.trainings import DEMO, MICRO, call, training
from tests.hub.hub_server import TOKEN, Hub


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub; this process and its children push to it and load from it."""
    pytest.importorskip("huggingface_hub")
    constants = importlib.import_module("huggingface_hub.constants")
    for name in [n for n in os.environ if n.startswith(("HF_", "HUGGING", "DEPTHTOK_REMOTE"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # it has a server of its own
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    with Hub() as hub:
        variables = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": TOKEN}
        variables |= {"DEPTHTOK_REMOTE_FIRST_WAIT_S": "0.01", "DEPTHTOK_REMOTE_ATTEMPTS": "2"}
        variables |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        variables |= {"DEPTHTOK_REMOTE_CACHE": str(tmp_path / "cache")}
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield hub


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Episodes, their depth and codes, in three parts each, and a policy that learnt from them."""
    folder = tmp_path_factory.mktemp("made")
    rlds = make_rlds(folder / "set/1.0.0", episodes=6, steps=4, size=32)
    depthtok.convert(rlds, out=folder / "episodes")
    depthtok.annotate(folder / "episodes", out=folder / "depth", estimator="dataset")
    depthtok.tokenize(folder / "depth", codebook=DEMO, out=folder / "codes")
    (folder / "micro.toml").write_text(MICRO)
    call(*training(folder, folder / "run", "--steps", 2))
    return folder
