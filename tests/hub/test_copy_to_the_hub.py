"""copy: a store to a repository of the stand-in Hub and back, `store.json` last."""

from pathlib import Path

import pytest

import depthtok
from depthtok.copies.packed import object_name
from depthtok.errors import ConfigError, StoreError
from depthtok.stores.codes import CodeStore
from depthtok.stores.spec import COPY
from depthtok.testing import tree_digest
from tests.hub.hub_server import Repo

URL = "hf://datasets/lab/store"

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")  # the client's


@pytest.fixture
def repo(hub) -> Repo:
    """An empty repository for a store, with another branch."""
    repo = hub.repos["datasets/lab/store"] = Repo(False)
    repo.add("main", {}, "first")
    repo.add("tried", {}, "other")
    return repo


def same(one: Path, other: Path) -> bool:
    trees = [tree_digest(path) for path in (one, other)]
    ours = [{k: v for k, v in tree.items() if k != ".lock"} for tree in trees]
    return ours[0] == ours[1]


def test_there_verified_and_back(repo, made, tmp_path):
    there = depthtok.copy(made / "codes", URL, then_verify=True)
    assert (there.parts, there.kept, there.verified) == (3, 0, 3)
    store, commits = CodeStore(made / "codes"), list(repo.commits.values())
    assert set(commits[-1]) == {COPY, *map(object_name, store.parts())}
    assert not any(COPY in files for files in commits[:-1])  # the root came last
    assert depthtok.copy(URL, tmp_path / "back", then_verify=True).verified == 3
    assert same(tmp_path / "back", made / "codes")
    assert depthtok.copy(made / "codes", URL).kept == 3
    assert CodeStore(URL).fingerprint == store.fingerprint


def test_half_a_copy_is_no_store_and_goes_on(repo, made, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("depthtok.copies.copying.texts_beside", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            depthtok.copy(made / "codes", URL)
    with pytest.raises(StoreError, match="there is no store at"):
        depthtok.copy(URL, tmp_path / "back")
    assert depthtok.copy(made / "codes", URL).kept == 3
    depthtok.copy(URL, tmp_path / "back")
    assert same(tmp_path / "back", made / "codes")


def test_a_branch_gets_what_is_copied_to_it_and_a_commit_nothing(repo, made):
    depthtok.copy(made / "codes", f"{URL}@tried")
    assert COPY in repo.commits[repo.branches["tried"]]
    assert not repo.commits[repo.branches["main"]]
    with pytest.raises(ConfigError, match="is a commit, which does not change"):
        depthtok.copy(made / "codes", f"{URL}@{repo.branches['main']}")
