"""copy: a store to a repository of the stand-in Hub and back, `store.json` last."""

import shutil

import pytest

from depthtok.copies.packed import object_name
from depthtok.errors import StoreError
from depthtok.stores.codes import CodeStore
from depthtok.stores.spec import COPY
from depthtok.testing import tree_digest
from tests.commands.trainings import call
from tests.hub.hub_server import Repo

URL = "hf://datasets/lab/store"

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")  # the client's


@pytest.fixture
def repo(hub) -> Repo:
    """An empty repository for a store."""
    repo = hub.repos["datasets/lab/store"] = Repo(False)
    repo.add("main", {}, "first")
    return repo


def test_there_verified_and_back(repo, made, tmp_path):
    said = call("copy", made / "codes", URL, "--then-verify")
    store = CodeStore(made / "codes")
    assert f"{len(store.part_names)} parts" in said
    assert "verified" in said
    commits = list(repo.commits.values())
    assert set(commits[-1]) == {COPY, *map(object_name, store.parts())}
    assert not any(COPY in files for files in commits[:-1])  # the root came last
    call("copy", URL, tmp_path / "back")
    assert tree_digest(tmp_path / "back") == tree_digest(made / "codes")
    again = call("copy", made / "codes", URL)
    assert "3 kept" in again or "3 were there" in again


def test_a_copy_that_was_cut_is_no_store_and_goes_on(repo, made, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("depthtok.copies.copying.texts_beside", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            call("copy", made / "codes", URL)
    with pytest.raises(StoreError, match="there is no store at"):
        call("copy", URL, tmp_path / "back")
    call("copy", made / "codes", URL)
    call("copy", URL, tmp_path / "back")
    assert tree_digest(tmp_path / "back") == tree_digest(made / "codes")
    shutil.rmtree(tmp_path / "back")
