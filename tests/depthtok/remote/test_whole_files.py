"""Whole copies in the cache, and other kinds of data sets in files, elsewhere."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import depthtok
from depthtok.disk.bytes_of import local_file
from depthtok.errors import OutputError, SourceError, SourceUnavailable
from depthtok.remote import whole
from depthtok.remote.location import located
from depthtok.remote.recorded import RecordedLocation
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.testing import tree_digest
from tests.depthtok.remote.file_sets import (
    REAL,
    RGB,
    SCHEMA,
    converted,
    downloads,
    pictures,
    require_equal,
    upload,
    without_etags,
)
from tests.depthtok.remote.web_server import served
from tests.lerobot_sets import SCHEMA as SET
from tests.lerobot_sets import write_v2
from tests.pipelines.convert.test_convert_files import DEMOS, write_demos

HOLD = """
import sys
from depthtok.disk.bytes_of import local_file
from depthtok.remote.location import located
with local_file(located(sys.argv[1])) as file:
    print(file, flush=True)
    sys.stdin.read()
"""


def test_a_file_that_another_process_reads_is_not_removed(proxy, monkeypatch):
    monkeypatch.setenv("DEPTHTOK_REMOTE_CACHE_GIB", str(150_000 / 2**30))
    urls = [located(f"s3://labs/held/{name}") for name in "abc"]
    for number, url in enumerate(urls):
        url.put(bytes([number]) * 70_000)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    reader = subprocess.Popen([sys.executable, "-c", HOLD, str(urls[0])], **pipes, text=True)
    held = Path(reader.stdout.readline().strip())
    assert held.read_bytes() == bytes(70_000)
    for url in (*urls[1:], *urls[1:]):
        with local_file(url):
            assert held.exists()
    reader.communicate("", timeout=20)
    os.utime(held, (0, 0))
    with local_file(located("s3://labs/held/b")), local_file(located("s3://labs/held/c")):
        assert not held.exists()


def test_threads_that_want_a_file_fetch_it_once(proxy):
    url = located("s3://labs/once/file")
    url.put(bytes(range(250)) * 1000)
    proxy.requests.clear()

    def read(_: int) -> bytes:
        with local_file(url) as file:
            return file.read_bytes()

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(read, range(6))) == {bytes(range(250)) * 1000}
    assert downloads(proxy, "once/file") == -(-250_000 // int(0.004 * 2**20))


def test_what_was_recorded_goes_along_to_other_processes():
    recorded = RecordedLocation.of(located("s3://labs/a/b.mp4"), 7, "etag", "digest")
    again = pickle.loads(pickle.dumps(recorded))
    assert (str(again), again.size, again.etag, again.sha256) == (
        "s3://labs/a/b.mp4",
        7,
        "etag",
        "digest",
    )
    assert again == located("s3://labs/a/b.mp4")


def test_a_disk_that_is_full_is_said(lerobot_bucket, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("DEPTHTOK_REMOTE_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match=f"cannot write {tmp_path / 'file'}"):
        converted(lerobot_bucket, tmp_path / "out")


def test_hdf5_demonstrations_of_a_bucket(proxy, tmp_path):
    demos = tmp_path / "demos"
    demos.mkdir()
    for name, lengths in {"one": [6, 5], "two": [7]}.items():
        write_demos(demos / f"{name}.hdf5", lengths)
    schema = tmp_path / "demos.toml"
    schema.write_text(DEMOS.format(instruction='instruction = "task"'))
    url = upload(demos, "s3://labs/hdf5/demos")
    for source, name in ((url, "there"), (demos, "here"), (f"{url}/one.hdf5", "one")):
        depthtok.convert(source, out=tmp_path / name, schema=str(schema))
    there, here, one = (EpisodeStore(tmp_path / name) for name in ("there", "here", "one"))
    assert without_etags(there) == without_etags(here)
    assert [e.instruction() for e in there] == [e.instruction() for e in here]
    for episodes in (zip(there, here, strict=True), zip(one, list(here)[:2], strict=True)):
        for episode, other in episodes:
            clips = [e.frames("front").read(0, len(e)) for e in (episode, other)]
            assert np.array_equal(*clips)
    proxy.requests.clear()
    list(there)
    assert proxy.requests == []


def test_a_file_an_episode_is_listed_and_not_asked_for_one_by_one(proxy, tmp_path):
    root = write_v2(tmp_path / "set", [5, 4, 3, 5])
    (tmp_path / "set.toml").write_text(SET)
    url = upload(root, "s3://labs/v2/set")
    proxy.requests.clear()
    depthtok.convert(url, out=tmp_path / "there", schema=str(tmp_path / "set.toml"), plan=True)
    assert sum(line.startswith("HEAD") and "episode_" in line for line in proxy.requests) <= 6
    depthtok.convert(url, out=tmp_path / "there", schema=str(tmp_path / "set.toml"))
    depthtok.convert(root, out=tmp_path / "here", schema=str(tmp_path / "set.toml"))
    there, here = EpisodeStore(tmp_path / "there"), EpisodeStore(tmp_path / "here")
    assert without_etags(there) == without_etags(here)
    for one, other in zip(there, here, strict=True):
        assert np.array_equal(*(e.frames("top").read(0, len(e)) for e in (one, other)))


def test_a_web_server_that_lists_nothing_and_has_no_etags(lerobot_store, proxy, tmp_path):
    root = tmp_path / "web/lerobot_v3"
    shutil.copytree(REAL, root)
    with served(tmp_path / "web") as url:
        url = f"{url}/lerobot_v3"
        there = converted(url, tmp_path / "there")
        require_equal(there, lerobot_store)
        assert str(there.source_root) == url
        (part,) = there.parts()
        assert part.meta["made_from"]["etags"] == ["", "", ""]
        digests = tree_digest(there.path)
        for path in root.rglob("*"):
            os.utime(path, (10**9, 10**9))
        converted(url, tmp_path / "there")
        assert tree_digest(there.path) == digests
        (root / RGB).write_bytes((REAL / RGB).read_bytes()[:-1] + b"\0")
        with pytest.raises(SourceUnavailable, match=r"changed since .*other bytes"):
            pictures(EpisodeStore(there.path))
        info = json.loads((root / "meta/info.json").read_text())
        (root / "meta/info.json").write_text(json.dumps({**info, "splits": {"train": "0:3"}}))
        with pytest.raises(SourceError, match="lists 2 of 3 episodes"):
            converted(url, tmp_path / "other")


@pytest.mark.parametrize("hashed", [False, True])
def test_a_damaged_copy_of_an_object_without_an_etag_is_fetched_again(proxy, tmp_path, hashed):
    """The server still has what was recorded, and is not said to have changed."""
    (tmp_path / "web").mkdir()
    (tmp_path / "web/file").write_bytes(data := bytes(range(250)) * 1000)
    with served(tmp_path / "web") as url:
        location = located(f"{url}/file")
        with whole.holding([location]) as (recorded,):
            pass
        (copy,) = (tmp_path / "cache").rglob("file")
        copy.write_bytes(b"\1" + data[1:])
        whole._sha256.cache_clear()
        if hashed:  # a digest of the damaged copy is remembered
            assert whole._sha256(copy) != recorded.sha256
        for _ in range(2):
            with local_file(recorded) as file:
                assert file.read_bytes() == data


def test_depth_of_a_bucket(lerobot_bucket, lerobot_store, tmp_path):
    words = {"estimator": "dataset", "camera": ("image",), "size": 64}
    depthtok.annotate(lerobot_bucket, out=tmp_path / "there", schema=str(SCHEMA), **words)
    depthtok.annotate(lerobot_store.path, out=tmp_path / "here", **words)
    there, here = (DepthStore(tmp_path / name) for name in ("there", "here"))
    digests = [tree_digest(store.path / "parts") for store in (there, here)]
    arrays = [{n: d for n, d in of.items() if "manifest" not in n} for of in digests]
    assert arrays[0] == arrays[1]
    assert len(arrays[0]) > 3
    assert str(EpisodeStore(tmp_path / "there.episodes").source_root) == lerobot_bucket
