"""A LeRobot data set on the Hub: what is read is of one commit, which is recorded.

The Hub is a stand-in for `HubObjects`: folders by commit. The real client is not shown here.
"""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import depthtok
from depthtok.remote import objects
from depthtok.remote.errors import missing
from depthtok.remote.objects import Described, Objects
from depthtok.stores.episodes import EpisodeStore
from tests.lerobot_sets import SCHEMA, write_v3

OLD, NEW = "a" * 40, "b" * 40


@dataclass
class Hub:
    """The commits of one repository; `main` is what `head` says."""

    folders: dict[str, Path]
    head: str

    def open(self, bucket: str) -> "Commit":
        assert bucket.startswith("datasets/lab/pick")
        revision = bucket.partition("@")[2].replace("main", "") or self.head
        return Commit(self.folders[revision], revision)


@dataclass(frozen=True)
class Commit:
    root: Path
    revision: str

    def describe(self, name: str) -> Described:
        path = self.root / name
        if not path.is_file():
            raise missing(name)
        data = path.read_bytes()
        return Described(name, len(data), hashlib.sha256(data).hexdigest(), 0)

    def read(self, name: str, start: int, stop: int, etag: str) -> memoryview:
        return memoryview((self.root / name).read_bytes()[start:stop])

    def folder(self, name: str) -> tuple[list[str], list[Described]]:
        paths = sorted((self.root / name).iterdir())
        names = [path.relative_to(self.root).as_posix() for path in paths]
        folders = [n for n in names if (self.root / n).is_dir()]
        return folders, [self.describe(n) for n in names if n not in folders]

    def write(self, name: str, data: bytes | Path) -> None:
        raise AssertionError(f"{name} of a commit was written")


_: type[Objects] = Commit


@pytest.fixture
def hub(tmp_path, monkeypatch):
    from depthtok.remote.by_hub import HubObjects

    monkeypatch.setenv("DEPTHTOK_REMOTE_CACHE", str(tmp_path / "cache"))
    hub = Hub({OLD: write_v3(tmp_path / "old", [5, 9, 4])}, OLD)
    monkeypatch.setattr(HubObjects, "open", hub.open)
    objects._objects.cache_clear()
    yield hub
    objects._objects.cache_clear()


def test_a_branch_becomes_the_commit_that_it_is(hub, tmp_path):
    schema = tmp_path / "pick.toml"
    schema.write_text(SCHEMA.replace('"set"', '"lab--pick"'))
    depthtok.convert("hf://datasets/lab/pick", out=tmp_path / "ep", schema=str(schema))
    depthtok.convert(hub.folders[OLD], out=tmp_path / "here", schema=str(schema))
    store, here = EpisodeStore(tmp_path / "ep"), EpisodeStore(tmp_path / "here")
    pinned = f"hf://datasets/lab/pick@{OLD}"
    assert dict(store.spec.place) == {"source_root": pinned, "revision": OLD}
    assert store.about["dataset"] == "lab--pick"
    hub.folders[NEW] = write_v3(tmp_path / "new", [5, 9, 6])
    hub.head = NEW
    objects._objects.cache_clear()
    shutil.rmtree(tmp_path / "cache")
    for one, other in zip(EpisodeStore(tmp_path / "ep"), here, strict=True):
        assert np.array_equal(*(e.frames("top").read(0, len(e)) for e in (one, other)))
    depthtok.convert("hf://datasets/lab/pick@main", out=tmp_path / "ep", schema=str(schema))
    store = EpisodeStore(tmp_path / "ep")
    assert dict(store.spec.place)["revision"] == NEW
    assert [len(episode) for episode in store] == [5, 9, 6]
    for episode in store:
        assert len(episode.frames("top").read(0, len(episode))) == len(episode)


def test_a_commit_that_is_given_is_read(hub, tmp_path):
    hub.folders[NEW] = write_v3(tmp_path / "new", [3])
    schema = tmp_path / "pick.toml"
    schema.write_text(SCHEMA)
    url = f"hf://datasets/lab/pick@{NEW}"
    depthtok.convert(url, out=tmp_path / "ep", schema=str(schema))
    assert [len(episode) for episode in EpisodeStore(tmp_path / "ep")] == [3]
