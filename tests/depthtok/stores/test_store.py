"""Stores: what is missing can be told, what differs is named, and roots are guarded."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from depthtok.errors import CorruptPart, MissingParts, OutputError, StaleStore, StoreError
from depthtok.stores import store
from depthtok.stores.arrays import ArraySpec
from depthtok.stores.filling import create, write_part
from depthtok.stores.parts import PartName, ShardKey, shard_name
from depthtok.stores.spec import StoreSpec, read_spec
from depthtok.stores.store import Store, missing_parts

SPEC = StoreSpec("toys", "toy", 1, {"size": 32}, {"cameras": ["a"]}, "0" * 64, {"train": 3})


def add(path, shard: int, spec: StoreSpec = SPEC) -> None:
    """One part of one episode of two frames."""

    def fill(writer):
        writer.append("code", np.full((2, 1), shard, np.uint8))
        writer.end(0, 2)

    name = PartName(shard_name("train", shard, 3))
    key = ShardKey("toy", "1.0.0", "train", shard, 3)
    write_part(path, spec, name, key, {"code": ArraySpec("uint8", (1,))}, fill, upstream="")


@pytest.fixture
def path(tmp_path):
    """A store that lacks the last of its three parts."""
    create(tmp_path / "toys", SPEC)
    for shard in (1, 0):
        add(tmp_path / "toys", shard)
    return tmp_path / "toys"


def test_a_store_says_what_it_lacks(path):
    opened = Store(path)
    assert opened.missing() == ["train-00002-of-00003"]
    with pytest.raises(MissingParts, match="lacks 1") as caught:
        opened.require_complete()
    assert "depthtok toy" in caught.value.remedy
    opened.require_complete(partial=True)
    add(path, 2)
    assert Store(path).missing() == []
    assert [int(part.map("code")[0, 0]) for part in Store(path).parts()] == [0, 1, 2]


def test_pieces_are_counted():
    names = [str(PartName("train-00000-of-00002", piece, 3)) for piece in (0, 2)]
    assert missing_parts({"train": 2}, names) == [
        "train-00000-of-00002.001-of-003",
        "train-00001-of-00002",
    ]


def test_tables_stay_mapped_up_to_a_limit(path, monkeypatch):
    monkeypatch.setattr(store, "MAPPED_TABLES", 1)
    opened = Store(path)
    one, two = opened.parts()
    first = opened.table(one, "code")
    assert opened.table(one, "code") is first
    opened.table(two, "code")
    assert opened.table(one, "code") is not first
    again = pickle.loads(pickle.dumps(opened))
    assert again.fingerprint == opened.fingerprint
    assert again.table(again.part(one.name), "code").tolist() == [[0], [0]]


def test_threads_share_the_mapped_tables(path, monkeypatch):
    monkeypatch.setattr(store, "MAPPED_TABLES", 1)
    opened = Store(path)
    parts = list(opened.parts())

    def right(number):
        return opened.table(parts[number % 2], "code")[0, 0] == number % 2

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(right, range(4000)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"what": {"size": 64}}, "size: 32 there, 64 now"),
        ({"about": {"cameras": ["b"]}}, "cameras"),
        ({"upstream": "1" * 64}, "other data"),
        ({"stage": "others"}, "made by `depthtok toy`"),
        ({"stage_version": 2}, "another version"),
    ],
)
def test_another_store_is_refused_and_says_what_differs(path, change, words):
    with pytest.raises(StaleStore, match=words) as caught:
        create(path, replace(SPEC, **change))
    assert "--out" in caught.value.remedy


def test_where_the_source_lies_is_no_difference(path):
    moved = replace(SPEC, place={"source": "/elsewhere"})
    create(path, moved)
    assert read_spec(path) == moved
    assert Store(path).fingerprint == SPEC.fingerprint


def test_parts_of_another_store_are_refused(path):
    add(path, 2, replace(SPEC, what={"size": 64}))
    with pytest.raises(CorruptPart, match="of another store"):
        list(Store(path).parts())


def test_roots_are_guarded(path, tmp_path):
    root = path / "zarr.json"
    sound = root.read_text()
    for spoiled in ("", "{}", "[]", sound.replace('"size": 32', '"size": 64'), sound + " "):
        root.write_text(spoiled)
        with pytest.raises(CorruptPart, match="damaged"):
            Store(path)
    newer = json.loads(sound)
    newer["attributes"]["depthtok"]["format"] = 9
    root.write_text(json.dumps(newer))
    with pytest.raises(StoreError, match="format 9"):
        Store(path)
    newer["attributes"]["depthtok"] |= {"shards": ["train"], "owner": "another field"}
    root.write_text(json.dumps(newer))
    with pytest.raises(StoreError, match="format 9"):
        Store(path)
    root.unlink()
    with pytest.raises(CorruptPart, match="missing"):
        Store(path)
    create(path, SPEC)
    assert root.read_text() == sound
    with pytest.raises(StoreError, match="does not exist"):
        Store(tmp_path / "gone")


def test_a_place_with_other_things_is_refused(tmp_path):
    (tmp_path / "mine").write_text("")
    with pytest.raises(OutputError, match="not empty"):
        create(tmp_path, SPEC)
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine"]
