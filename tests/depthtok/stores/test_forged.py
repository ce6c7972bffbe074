"""Descriptions that depthtok never wrote, with digests that fit: every reader refuses them with an
error of ours, or reads what they say. None ends in a traceback."""

import json
import os
import random
import shutil
from contextlib import suppress
from itertools import islice
from pathlib import Path

import pytest

from depthtok.config import digest
from depthtok.errors import DepthtokError
from depthtok.stores import codebook
from depthtok.stores.codebook import Codebook
from depthtok.stores.codes import CodeStore
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.manifest import MANIFEST, pack_manifest, unpack_manifest
from depthtok.stores.spec import ROOT, StoreSpec
from depthtok.stores.verify import verify_store

BEFORE = Path(__file__).parents[2] / "data" / "before"
COUNT = int(os.environ.get("DEPTHTOK_DAMAGES", "1"))  # 10: ten times as many
HOSTILE = [
    None,
    -1,
    0,
    10**9,
    2**63,
    10**30,
    "",
    "x",
    "../../../etc/passwd",
    "/etc/passwd",
    [],
    {},
    [[]],
    True,
    1.5,
    ["a"],
    {"a": 1},
    "\0",
    1e300,
    "train-00000-of-00002",
]


def places(tree, path=()):
    """The path of every value in a document, but for the whole."""
    if path:
        yield path
    table = tree if isinstance(tree, dict | list) else {}
    for key, value in table.items() if isinstance(table, dict) else enumerate(table):
        yield from places(value, (*path, key))


def forge(rng, tree):
    """Changes or drops one value; returns which."""
    path = rng.choice(list(places(tree)))
    for key in path[:-1]:
        tree = tree[key]
    if rng.random() < 0.2:
        del tree[path[-1]]
        return f"{path} dropped"
    tree[path[-1]] = rng.choice(HOSTILE)
    return f"{path} = {tree[path[-1]]!r}"


def read_all(path, kind):
    """What a user of a store reads of it."""
    if kind == "episodes":
        store = EpisodeStore(path, source_root=BEFORE / "rlds" / "1.0.0")
        for episode in islice(store, 3):
            _ = episode.key, episode.action[:1], episode.proprio[:1], episode.instruction()
            for camera in store.cameras:
                episode.frames(camera).read(0, 1)
                episode.intrinsics(camera)
        _ = store.meaning, store.statistics(), store.steps
    elif kind == "depth":
        store = DepthStore(path)
        for clip in islice(store.clips(), 3):
            _ = clip.read(0, 1), clip.disparity_quantiles, clip.key
    else:
        store = CodeStore(path)
        for part in store.parts():
            for episode in part.episodes[:2]:
                for camera in store.cameras:
                    store.grid_of(episode.key, camera)
    _ = store.missing(), store.failures(), store.files_bytes()


def survives(*readers):
    """Runs readers, each of which may refuse. Anything but our own errors is a failure."""
    said = []
    for reader in readers:
        try:
            reader()
        except DepthtokError as error:
            said.append(error.problem)
    return said


def all_readers(store, kind):
    return (
        lambda: read_all(store, kind),
        lambda: list(verify_store(store)),
    )


@pytest.mark.parametrize("kind", ["episodes", "depth", "codes"])
def test_forged_manifests(tmp_path, kind):
    store, rng = shutil.copytree(BEFORE / kind, tmp_path / kind), random.Random(kind)
    file = sorted((store / "parts").glob("train*"))[0] / MANIFEST
    before, _ = unpack_manifest(file.read_bytes(), file)
    for _ in range(60 * COUNT):
        content = json.loads(json.dumps(before))
        what = forge(rng, content)
        file.write_bytes(pack_manifest({k: v for k, v in content.items() if k != "sha256"}))
        try:
            survives(*all_readers(store, kind))
        except Exception as error:
            raise AssertionError(f"{kind}: {what}") from error


@pytest.mark.parametrize("kind", ["episodes", "depth", "codes"])
def test_forged_roots(tmp_path, kind):
    store, rng = shutil.copytree(BEFORE / kind, tmp_path / kind), random.Random(kind)
    before = json.loads((store / ROOT).read_text())["attributes"]["depthtok"]
    fields = {k: v for k, v in before.items() if k not in ("sha256", "fingerprint", "format")}
    for _ in range(60 * COUNT):
        content = json.loads(json.dumps(fields))
        what = forge(rng, content)
        (store / ROOT).write_text(signed(content))
        try:
            _same_fingerprint(store, content)
            survives(*all_readers(store, kind))
        except Exception as error:
            raise AssertionError(f"{kind}: {what}") from error


def signed(content):
    """A root group of this content, which may not be of the types that `StoreSpec` has."""
    from depthtok.stores.arrays import group_json

    parts = [
        1,
        *(
            content.get(k)
            for k in ("type", "stage", "stage_version", "what", "about", "upstream", "shards")
        ),
    ]
    full = {**content, "format": 1, "fingerprint": digest(parts)}
    return group_json({"depthtok": {**full, "sha256": digest(full)}})


def _same_fingerprint(store, content):
    """Gives the parts the fingerprint of the forged store, so that they are read at all."""
    root = json.loads((store / ROOT).read_text())["attributes"]["depthtok"]
    for file in (store / "parts").glob(f"train*/{MANIFEST}"):
        manifest, _ = unpack_manifest(file.read_bytes(), file)
        manifest = {k: v for k, v in manifest.items() if k != "sha256"}
        file.write_bytes(pack_manifest({**manifest, "fingerprint": root["fingerprint"]}))


def test_forged_statistics(tmp_path):
    store, rng = shutil.copytree(BEFORE / "episodes", tmp_path / "e"), random.Random(5)
    file = store / "statistics.json"
    before, _ = unpack_manifest(file.read_bytes(), file)
    for _ in range(60 * COUNT):
        content = json.loads(json.dumps(before["statistics"]))
        what = forge(rng, content)
        parts = {"parts": before["parts"], "statistics": content}
        file.write_bytes(pack_manifest(parts))
        try:
            survives(*all_readers(store, "episodes"))
        except Exception as error:
            raise AssertionError(what) from error


def test_forged_codebooks(tmp_path):
    from vqvae.codec import Codec

    book, rng = shutil.copytree(BEFORE / "codebook", tmp_path / "b"), random.Random(6)
    before = json.loads((book / codebook.META).read_text())
    for _ in range(60 * COUNT):
        content = json.loads(json.dumps({k: v for k, v in before.items() if k != "digest"}))
        what = forge(rng, content)
        with suppress(KeyError):
            content["fingerprint"] = codebook.fingerprint(content)
        (book / codebook.META).write_text(json.dumps({**content, "digest": digest(content)}))
        try:
            survives(lambda: Codec.load(book), lambda: use(Codebook.load(book)))
        except Exception as error:
            raise AssertionError(what) from error


def use(book):
    return (
        book.grid,
        book.size,
        book.normalisation.range_of(tuple(map(float, range(11)))),
        (book.quality, book.demo),
    )


@pytest.mark.parametrize("text", ["[]", "5", "null", '"x"', "[" * 100_000, "{", "", "\0", "1e999"])
@pytest.mark.parametrize("name", ["zarr.json", "statistics.json", "codebook.json"])
def test_documents_that_are_no_objects(tmp_path, name, text):
    kind = "codebook" if name == "codebook.json" else "episodes"
    store = shutil.copytree(BEFORE / kind, tmp_path / kind)
    (store / name).write_text(text)
    if kind == "codebook":
        with pytest.raises(DepthtokError):
            Codebook.load(store)
    else:
        survives(*all_readers(store, kind))


def test_the_untouched_ones_are_read():
    for kind in ("episodes", "depth", "codes"):
        read_all(BEFORE / kind, kind)
    assert isinstance(StoreSpec("t", "s", 1, {}, {}, "", {}).fingerprint, str)
