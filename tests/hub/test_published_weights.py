"""Published weights from the stand-in Hub: pinned by hash where that is known, recorded always."""

import hashlib

import pytest

from depthtok.errors import WeightsError
from pipelines.depth.da3.weights import find_weights as find_da3
from pipelines.depth.fetched import fetched_from
from pipelines.depth.vida.weights import find_weights
from tests.hub.hub_server import File, Repo

BYTES = b"weights" * 1000


@pytest.fixture
def published(hub):
    """Puts a file into a repository of its publisher; returns the commit."""

    def put(name: str, file: str) -> str:
        repo = hub.repos.setdefault(f"models/depth-anything/{name}", Repo(False))
        return repo.add("main", {file: File(BYTES, True)}, "weights")

    return put


def test_without_a_known_hash_it_says_what_was_loaded(published, capsys):
    commit = published("DA3-SMALL", "model.safetensors")
    path = find_da3("da3-small", None)
    assert path.read_bytes() == BYTES
    sha256 = hashlib.sha256(BYTES).hexdigest()
    said = capsys.readouterr().err
    assert f"hf://depth-anything/DA3-SMALL@{commit}, SHA-256 {sha256}" in said
    recorded = f"hf://depth-anything/DA3-SMALL@{commit} model.safetensors sha256={sha256}"
    assert fetched_from("da3-small") == {"weights_from": recorded}
    assert find_da3("da3-small", None) == path
    assert capsys.readouterr().err == ""  # once is enough


def test_another_file_than_the_known_one_is_refused(published, hub):
    published("Video-Depth-Anything-Small", "video_depth_anything_vits.pth")
    with pytest.raises(WeightsError, match="known to be 13379300b739e659"):
        find_weights("vits")
    assert fetched_from("vits") == {}  # it was deleted
    hub.asked.clear()
    with pytest.raises(WeightsError, match="known to be 13379300b739e659"):
        find_weights("vits")
    assert any(method == "GET" for method, _ in hub.asked)


def test_what_did_not_come_from_the_hub_is_not_said_to(hub):
    assert fetched_from("tiny") == {}
    assert fetched_from("vitl") == {}
    assert fetched_from("dataset") == {}
