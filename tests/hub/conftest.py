"""The stand-in Hub, and a client that speaks to it alone."""

import importlib
import os

import pytest

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
