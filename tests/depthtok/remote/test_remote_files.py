"""LeRobot and HDF5 data sets in a bucket: convert, frames, and every fault of the network."""

import gc
import hashlib
import json
from pathlib import Path

import numpy as np
import obstore
import pytest

import depthtok
from depthtok.disk.bytes_of import local_file
from depthtok.errors import SourceUnavailable
from depthtok.remote.location import located
from depthtok.stores.episodes import EpisodeStore
from depthtok.testing import temporaries, tree_digest
from tests.depthtok.remote.conftest import KEY, SECRET
from tests.depthtok.remote.faulty_proxy import Fault
from tests.depthtok.remote.file_sets import (
    BLOCK,
    DATA,
    DEPTH,
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

WHOLE = "GET .*images.image/chunk-000/file-000.mp4"


def test_a_bucket_gives_the_store_that_a_disk_gives(lerobot_bucket, lerobot_store, proxy, tmp_path):
    there = converted(lerobot_bucket, tmp_path / "there")
    for name in (DATA, RGB, DEPTH):  # each byte comes once, and no more for the frames
        assert downloads(proxy, name) == -(-(REAL / name).stat().st_size // BLOCK)
    proxy.requests.clear()
    require_equal(there, lerobot_store)
    assert proxy.requests == []
    assert str(there.source_root) == there.spec.place["source_root"] == lerobot_bucket
    (part,) = there.parts()
    recorded = part.meta["made_from"]
    names = [DATA, DEPTH, RGB]
    assert recorded["etags"] == [located(f"{lerobot_bucket}/{n}").describe().etag for n in names]
    digests = [hashlib.sha256((REAL / n).read_bytes()).hexdigest() for n in names]
    assert recorded["sha256"] == digests


def test_frames_are_those_of_lerobots_own_reader(lerobot_bucket, tmp_path):
    reader = json.loads((REAL / "reader.json").read_text())
    store = converted(lerobot_bucket, tmp_path / "there")
    frames = [f for episode in store for f in episode.frames("image").read(0, len(episode))]
    assert [hashlib.sha256(frame.tobytes()).hexdigest() for frame in frames] == reader["rgb"]


def test_copied_images_are_those_of_the_disk(lerobot_bucket, tmp_path):
    stores = [
        converted(source, tmp_path / name, copy_images=True)
        for name, source in (("there", lerobot_bucket), ("here", REAL))
    ]
    packs = [[(p.path / "images.bin").read_bytes() for p in s.parts()] for s in stores]
    assert packs[0] == packs[1]
    require_equal(*stores)


PASSING = {
    "cut": Fault(WHOLE, body=100, times=2),
    "shorter": Fault(WHOLE, body=100, shorter=True, times=2),
    "stalls": Fault(WHOLE, body=100, stall_s=1.6, times=1),
    "503": Fault(WHOLE, status=503, times=3),
    "503 of the description": Fault("GET .*info.json", status=503, times=1),
    "cut of the list of episodes": Fault("GET .*meta/episodes/chunk", body=9, times=2),
    "500 of a listing": Fault("list-type", status=500, times=2),
}


@pytest.mark.parametrize("fault", [Fault(**vars(f)) for f in PASSING.values()], ids=[*PASSING])
def test_trouble_that_passes_leaves_no_trace(fault, lerobot_bucket, lerobot_store, proxy, tmp_path):
    proxy.faults.append(fault)
    there = converted(lerobot_bucket, tmp_path / "there")
    assert fault.hits > 0
    assert without_etags(there) == without_etags(lerobot_store)


LASTING = {
    "cut": (Fault(WHOLE, body=100), "4 attempts"),
    "shorter": (Fault(WHOLE, body=100, shorter=True), "4 attempts"),
    "503": (Fault(WHOLE, status=503), "status 503"),
    "403": (Fault(WHOLE, status=403), "not given to us"),
    "404": (Fault(WHOLE, status=404), "is not there"),
    "403 of the list of episodes": (
        Fault("GET .*meta/episodes/chunk", status=403),
        "not given to us",
    ),
}


@pytest.mark.parametrize("name", LASTING)
def test_trouble_that_stays_is_an_error_and_nothing_of_it_stays(
    name, lerobot_bucket, lerobot_store, proxy, tmp_path
):
    fault, words = LASTING[name]
    proxy.faults.append(Fault(**vars(fault)))
    with pytest.raises(SourceUnavailable, match=words) as caught:
        converted(lerobot_bucket, tmp_path / "there")
    assert lerobot_bucket in caught.value.problem
    assert "run the same command again" in caught.value.remedy
    assert not {KEY, SECRET} & {*str(caught.value).split()}
    assert not temporaries(tmp_path)
    assert not [*(tmp_path / "there/parts").glob("train*")]
    proxy.faults.clear()
    proxy.requests.clear()
    require_equal(converted(lerobot_bucket, tmp_path / "there"), lerobot_store)
    if "list" not in name:
        assert downloads(proxy, DATA) == 0  # it was whole already


def test_a_file_that_is_replaced_while_it_comes_is_refused(lerobot_bucket, proxy, tmp_path):
    def replace() -> None:
        proxy.faults.clear()
        located(f"{lerobot_bucket}/{RGB}").put((REAL / RGB).read_bytes() + b"\0")

    proxy.faults.append(Fault(WHOLE, before=replace, skip=2, times=1))
    with pytest.raises(SourceUnavailable, match="was replaced while it was read"):
        converted(lerobot_bucket, tmp_path / "out")
    assert not [*(tmp_path / "out/parts").glob("train*")]
    assert not temporaries(tmp_path)


def forget(tmp_path: Path) -> None:
    for file in (tmp_path / "cache/blocks").glob("*-whole/file"):
        file.unlink()


@pytest.mark.parametrize("data", [lambda b: b + b"\0", lambda b: b[:-1] + bytes([b[-1] ^ 1])])
def test_a_file_that_changed_since_gives_no_frames(data, proxy, tmp_path):
    digest = hashlib.sha256(data(b"ab")).hexdigest()[:8]
    lerobot_bucket = upload(REAL, f"s3://labs/files/changed-{digest}/lerobot_v3")
    expected = pictures(converted(lerobot_bucket, tmp_path / "out"))
    located(f"{lerobot_bucket}/{RGB}").put(data((REAL / RGB).read_bytes()))
    for one, other in zip(pictures(EpisodeStore(tmp_path / "out")), expected, strict=True):
        assert np.array_equal(one, other)  # from the cache: they are what was recorded
    forget(tmp_path)
    with pytest.raises(SourceUnavailable, match="changed since it was indexed"):
        pictures(EpisodeStore(tmp_path / "out"))
    findings = depthtok.verify(tmp_path / "out").damages
    assert any(f"{lerobot_bucket}/" in finding.problem for finding in findings)
    parts = {part.digest for part in EpisodeStore(tmp_path / "out").parts()}
    again = converted(lerobot_bucket, tmp_path / "out")
    assert parts.isdisjoint(part.digest for part in again.parts())


def test_the_same_bytes_under_another_etag_are_the_same(lerobot_bucket, proxy, tmp_path):
    store = converted(lerobot_bucket, tmp_path / "out")
    expected = pictures(store)
    before = located(f"{lerobot_bucket}/{RGB}").describe().etag
    file = located(f"{lerobot_bucket}/{RGB}")
    obstore.put(file.objects.store, file.key, (REAL / RGB).read_bytes(), use_multipart=True)
    assert file.describe().etag != before
    forget(tmp_path)
    for one, other in zip(pictures(EpisodeStore(tmp_path / "out")), expected, strict=True):
        assert np.array_equal(one, other)
    assert depthtok.verify(tmp_path / "out").sound
    digests = tree_digest(tmp_path / "out")
    converted(lerobot_bucket, tmp_path / "out")
    assert tree_digest(tmp_path / "out") == digests


def test_converted_again_nothing_is_fetched(lerobot_bucket, proxy, tmp_path):
    converted(lerobot_bucket, tmp_path / "out")
    (tmp_path / "out/seen.json").unlink(missing_ok=True)
    forget(tmp_path)
    digests = tree_digest(tmp_path / "out/parts")
    proxy.requests.clear()
    converted(lerobot_bucket, tmp_path / "out")
    assert tree_digest(tmp_path / "out/parts") == digests
    assert [downloads(proxy, name) for name in (DATA, RGB, DEPTH)] == [0, 0, 0]


def test_a_cache_that_is_smaller_than_the_data_works(
    lerobot_bucket, lerobot_store, tmp_path, monkeypatch
):
    limit = 180_000  # bytes: each file alone fits, all together do not
    monkeypatch.setenv("DEPTHTOK_REMOTE_CACHE_GIB", str(limit / 2**30))
    converted(lerobot_bucket, tmp_path / "there")
    for _ in range(2):
        require_equal(EpisodeStore(tmp_path / "there"), lerobot_store)
    gc.collect()  # the stores, whose readers hold their files
    located(f"{lerobot_bucket}/big").put(bytes(100_000))
    with local_file(located(f"{lerobot_bucket}/big")):
        cached = [f.stat().st_size for f in (tmp_path / "cache/blocks").rglob("*") if f.is_file()]
    assert 100_000 <= sum(cached) <= limit


def test_a_plan_says_bytes_and_requests(lerobot_bucket, tmp_path):
    planned = depthtok.convert(lerobot_bucket, out=tmp_path / "out", schema=str(SCHEMA), plan=True)
    sizes = [(REAL / name).stat().st_size for name in (DATA, RGB, DEPTH)]
    assert planned.fetches.bytes == sum(sizes)
    assert planned.fetches.requests == sum(1 + -(-size // BLOCK) for size in sizes)
    assert f"to fetch from {lerobot_bucket}" in "\n".join(planned.lines())


def damage(cache: Path) -> None:
    for file in cache.glob("blocks/*-whole/file"):
        data = file.read_bytes()
        file.write_bytes(bytes(len(data) // 2) + data[len(data) // 2 :])


def test_a_damaged_copy_in_the_cache_is_fetched_again(
    lerobot_bucket, lerobot_store, proxy, tmp_path
):
    store = converted(lerobot_bucket, tmp_path / "out")
    damage(tmp_path / "cache")
    require_equal(store, lerobot_store)
    damage(tmp_path / "cache")
    require_equal(converted(lerobot_bucket, tmp_path / "other"), lerobot_store)
    for sidecar in (tmp_path / "cache/blocks").glob("*-whole/sha256"):
        sidecar.unlink()
    require_equal(converted(lerobot_bucket, tmp_path / "third"), lerobot_store)
