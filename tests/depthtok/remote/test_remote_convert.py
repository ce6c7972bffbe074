"""convert and all that follows from a bucket, with every fault of the network on the way."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import depthtok
from depthtok.errors import ConfigError, OutputError, SourceError, SourceUnavailable
from depthtok.remote.location import located
from depthtok.stores.episodes import EpisodeStore
from depthtok.testing import make_rlds, temporaries, tree_digest
from tests.depthtok.remote.conftest import KEY, SECRET
from tests.depthtok.remote.faulty_proxy import Fault
from tests.depthtok.remote.web_server import served

SHARD = "GET .*tfrecord-00001"


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    return make_rlds(tmp_path_factory.mktemp("rlds") / "set/1.0.0", depth=False)


@pytest.fixture
def bucket(proxy, local, request):
    """The same data set in a bucket, in a folder of the test's own."""
    url = f"s3://labs/{request.node.name.replace('[', '-').rstrip(']')}/1.0.0"
    upload(local, url)
    proxy.requests.clear()
    return url


def upload(folder: Path, url: str) -> None:
    for path in folder.iterdir():
        located(f"{url}/{path.name}").put(path.read_bytes())


def shard_of(url: str, number: int = 1) -> Path:
    name = next(path.name for path in located(url).iterdir() if f"-0000{number}-of" in path.name)
    return located(f"{url}/{name}")


def made(source: object, out: Path, **settings: object) -> EpisodeStore:
    depthtok.convert(source, out=out, schema="libero", **settings)
    return EpisodeStore(out)


def without_etags(store: EpisodeStore) -> list[dict]:
    manifests = [json.loads(json.dumps(part.manifest)) for part in store.parts()]
    for manifest in manifests:
        del manifest["sha256"]  # of all the others
        manifest["meta"]["made_from"].pop("etag", None)
    return manifests


def test_a_bucket_gives_the_store_that_a_disk_gives(bucket, local, proxy, tmp_path):
    there, here = made(bucket, tmp_path / "there"), made(local, tmp_path / "here")
    assert without_etags(there) == without_etags(here)
    etags = {part.meta["made_from"]["etag"] for part in there.parts()}
    assert etags == {shard_of(bucket, number).describe().etag for number in range(3)}
    assert str(there.source_root) == there.spec.place["source_root"] == bucket
    for one, other in zip(there, here, strict=True):
        for camera in here.cameras:
            clips = [episode.frames(camera) for episode in (one, other)]
            assert np.array_equal(*(clip.read(0, len(clip)) for clip in clips))


def test_each_byte_of_a_shard_comes_once(bucket, local, proxy, tmp_path):
    made(bucket, tmp_path / "out")
    block = int(0.004 * 2**20)
    for number in range(3):
        size = next(local.glob(f"*-0000{number}-of*")).stat().st_size
        reads = [
            line
            for line in proxy.requests
            if line.startswith("GET") and f"-0000{number}-of" in line
        ]
        assert len(reads) == -(-size // block)


def test_copied_images_are_those_of_the_disk(bucket, local, tmp_path):
    there = made(bucket, tmp_path / "there", copy_images=True)
    here = made(local, tmp_path / "here", copy_images=True)
    packs = [[(p.path / "images.bin").read_bytes() for p in s.parts()] for s in (there, here)]
    assert packs[0] == packs[1]
    assert all(packs[0])


PASSING = {
    "cut": Fault(SHARD, body=100, times=2),
    "cut at once": Fault(SHARD, body=0, times=1),
    "shorter": Fault(SHARD, body=100, shorter=True, times=2),
    "stalls": Fault(SHARD, body=100, stall_s=1.6, times=1),
    "slow": Fault(SHARD, delay_s=0.3, times=2),
    "503": Fault(SHARD, status=503, times=3),
    "503 of the description": Fault("dataset_info", status=503, times=1),
    "500 of a listing": Fault("list-type", status=500, times=2),
}


@pytest.mark.parametrize("fault", [Fault(**vars(f)) for f in PASSING.values()], ids=[*PASSING])
def test_trouble_that_passes_leaves_no_trace(fault, bucket, local, proxy, tmp_path):
    proxy.faults.append(fault)
    there = made(bucket, tmp_path / "there")
    assert fault.hits > 0
    assert without_etags(there) == without_etags(made(local, tmp_path / "here"))


LASTING = {
    "cut": (Fault(SHARD, body=100), "4 attempts"),
    "shorter": (Fault(SHARD, body=100, shorter=True), "4 attempts"),
    "503": (Fault(SHARD, status=503), "status 503"),
    "403": (Fault(SHARD, status=403), "not given to us"),
    "404": (Fault(SHARD, status=404), "is not there"),
    "403 of the description": (Fault("dataset_info", status=403), "not given to us"),
}


@pytest.mark.parametrize("name", LASTING)
def test_trouble_that_stays_is_an_error_and_the_rest_is_kept(name, bucket, local, proxy, tmp_path):
    fault, words = LASTING[name]
    proxy.faults.append(Fault(**vars(fault)))
    with pytest.raises(SourceUnavailable, match=words) as caught:
        made(bucket, tmp_path / "there")
    assert bucket in caught.value.problem
    assert "run the same command again" in caught.value.remedy
    assert not {KEY, SECRET} & {*str(caught.value).split()}
    assert not temporaries(tmp_path)
    before = {path.name for path in (tmp_path / "there/parts").glob("train*")}
    assert len(before) == (0 if "description" in name else 1)
    proxy.faults.clear()
    proxy.requests.clear()
    there = made(bucket, tmp_path / "there")
    assert without_etags(there) == without_etags(made(local, tmp_path / "here"))
    if before:
        assert not [line for line in proxy.requests if "GET" in line and "-00000-of" in line]


def test_buckets_that_say_403_of_what_they_lack_are_converted(bucket, proxy, tmp_path):
    """Those that may not be listed answer so; what is not there is no reason to refuse the rest."""
    fault = Fault("depthtok.json", status=403)
    proxy.faults.append(fault)
    made(bucket, tmp_path / "out")
    assert fault.hits  # it was asked for


def test_403_is_asked_once(bucket, proxy, tmp_path):
    fault = Fault(SHARD, status=403)
    proxy.faults.append(fault)
    with pytest.raises(SourceUnavailable, match="not given to us"):
        made(bucket, tmp_path / "out")
    assert fault.hits <= 4  # of the requests that were in flight, none was repeated


def test_an_object_that_is_replaced_while_it_is_read_is_refused(bucket, local, proxy, tmp_path):
    shard = shard_of(bucket)
    data = bytearray(next(local.glob("*-00001-of*")).read_bytes())
    changed = bytes(data[:-1] + bytes([data[-1] ^ 1]))

    def replace() -> None:
        proxy.faults.clear()
        shard.put(changed)

    proxy.faults.append(Fault(SHARD, before=replace, skip=2, times=1))
    with pytest.raises(SourceUnavailable, match="was replaced while it was read"):
        made(bucket, tmp_path / "out")
    assert len([*(tmp_path / "out/parts").glob("train-00001*")]) == 0


def test_a_shard_that_changed_is_converted_anew_and_no_other(bucket, local, proxy, tmp_path):
    store = made(bucket, tmp_path / "out")
    before = {part.name: part.digest for part in store.parts()}
    other = make_rlds(tmp_path / "other", depth=False, seed=1)
    shard_of(bucket).put(next(other.glob("*-00001-of*")).read_bytes())
    after = {part.name: part.digest for part in made(bucket, tmp_path / "out").parts()}
    assert [name for name in before if before[name] != after[name]] == [
        "train-00001-of-00003.000-of-001"
    ]
    digests = tree_digest(tmp_path / "out")
    proxy.requests.clear()
    made(bucket, tmp_path / "out")
    assert tree_digest(tmp_path / "out") == digests
    assert not [line for line in proxy.requests if "tfrecord" in line and line.startswith("GET")]


def test_frames_come_by_blocks_and_once(bucket, proxy, tmp_path):
    store = made(bucket, tmp_path / "out")
    clip = store.episode(0).frames("image")
    frames = clip.read(0, len(clip))
    proxy.requests.clear()
    assert np.array_equal(clip.read(0, len(clip)), frames)
    assert proxy.requests == []


def test_a_damaged_block_of_the_cache_is_fetched_again(bucket, proxy, tmp_path):
    store = made(bucket, tmp_path / "out")
    clip = store.episode(0).frames("image")
    frames = clip.read(0, len(clip))
    for block in (tmp_path / "cache/blocks").glob("*/*"):
        block.write_bytes(bytes(block.stat().st_size))
    assert np.array_equal(clip.read(0, len(clip)), frames)


def test_a_replaced_object_gives_no_frames(bucket, local, tmp_path):
    store = made(bucket, tmp_path / "out")
    clip = store.episode(2).frames("image")  # of shard 1
    clip.read(0, 1)
    data = next(local.glob("*-00001-of*")).read_bytes()
    shard_of(bucket).put(data + b"\0")
    with pytest.raises(SourceUnavailable, match="was replaced"):
        clip.read(1, len(clip))


def test_verify_looks_at_the_bucket(bucket, local, tmp_path):
    store = made(bucket, tmp_path / "out")
    part = store.part(store.part_names[1])
    offset, _, length, _ = store.table(part, "images")[0, 0].tolist()
    assert depthtok.verify(tmp_path / "out", images=True).sound
    shard = shard_of(bucket)
    data = bytearray(next(local.glob("*-00001-of*")).read_bytes())
    data[offset + length // 2] ^= 255
    shard.put(bytes(data))
    findings = depthtok.verify(tmp_path / "out", images=True).damages
    assert findings
    assert all(str(shard) in finding.problem for finding in findings)


def test_a_plan_says_bytes_and_requests(bucket, local, tmp_path):
    planned = depthtok.convert(bucket, out=tmp_path / "out", schema="libero", plan=True)
    sizes = [path.stat().st_size for path in local.glob("*tfrecord*")]
    assert planned.fetches.bytes == sum(sizes)
    assert planned.fetches.requests == sum(1 + -(-size // 4194) for size in sizes)
    assert f"to fetch from {bucket}" in "\n".join(planned.lines())


def test_a_web_server_without_the_shards_is_said_to_have_none(proxy, local, tmp_path):
    folder = tmp_path / "web/set/1.0.0"
    folder.mkdir(parents=True)
    for path in local.glob("*.json"):
        shutil.copy(path, folder)
    with (
        served(tmp_path / "web") as url,
        pytest.raises(SourceError, match=r"has none of its 3 shards \(first: \S+\)\n"),
    ):
        made(f"{url}/set/1.0.0", tmp_path / "out")


def test_nothing_is_written_to_a_bucket_as_it_is_made(bucket, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="nothing is written to s3://labs/out"):
        made(bucket, "s3://labs/out")
    assert not [*tmp_path.glob("s3*")]


@pytest.mark.parametrize("url", ["s3://me:secret@labs/set", "https://host/set?X-Amz-Signature=1"])
def test_credentials_in_a_url_are_refused(url, tmp_path):
    with pytest.raises(ConfigError) as caught:
        depthtok.convert(url, out=tmp_path / "out")
    assert "secret" not in str(caught.value)
    assert "Signature" not in str(caught.value)


def test_credentials_appear_nowhere(bucket, proxy, tmp_path):
    proxy.faults.append(Fault("-00002-of", status=403))
    command = ["convert", bucket, "--out", str(tmp_path / "out"), "--schema", "libero"]
    done = subprocess.run(
        [sys.executable, "-m", "depthtok", *command], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2, done.stderr
    written = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    everything = b"".join(written) + (done.stdout + done.stderr).encode()
    assert bucket.encode() in everything
    assert KEY.encode() not in everything
    assert SECRET.encode() not in everything
