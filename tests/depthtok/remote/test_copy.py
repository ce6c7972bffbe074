"""copy: stores to a bucket, to disks, and back, with faults; and stores opened from a bucket."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import depthtok
from depthtok.copies import copying
from depthtok.copies.contents import Contents
from depthtok.copies.packed import object_name, pack, packed_size
from depthtok.disk import locks
from depthtok.disk.files import write_atomic
from depthtok.errors import (
    ConfigError,
    CorruptPart,
    OutputError,
    SourceUnavailable,
    StaleStore,
    StoreError,
)
from depthtok.remote.location import located
from depthtok.stores.codes import CodeStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.spec import SEEN
from depthtok.stores.store import Store
from depthtok.testing import make_rlds, temporaries, tree_digest
from pipelines.train_vla.stores import OpenStores
from tests.checked.checked_calls import unchecked
from tests.depthtok.remote.faulty_proxy import Fault
from vla.config import Config


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    rlds = make_rlds(folder / "set/1.0.0", depth=False)
    depthtok.convert(rlds, out=folder / "episodes", schema="libero", copy_images=True)
    return folder / "episodes"


@pytest.fixture
def url(proxy, request):
    return f"s3://labs/{request.node.name.replace('[', '-').rstrip(']')}/episodes"


def same(one: Path, other: Path) -> bool:
    trees = [tree_digest(path) for path in (one, other)]
    ours = [{k: v for k, v in tree.items() if k not in (SEEN, ".lock")} for tree in trees]
    return ours[0] == ours[1]


def test_there_and_back_is_the_same_store(store, url, tmp_path):
    there = depthtok.copy(store, url, then_verify=True)
    assert (there.parts, there.kept, there.verified) == (3, 0, 3)
    back = depthtok.copy(url, tmp_path / "back", then_verify=True)
    assert (back.parts, back.kept, back.verified, back.bytes) == (3, 0, 3, there.bytes)
    assert same(store, tmp_path / "back")
    assert depthtok.verify(tmp_path / "back", images=True).sound


def test_disk_to_disk(store, tmp_path):
    copied = depthtok.copy(store, tmp_path / "copy", then_verify=True)
    assert (copied.parts, copied.kept, copied.verified) == (3, 0, 3)
    assert same(store, tmp_path / "copy")
    assert depthtok.copy(store, tmp_path / "copy").kept == 3


@pytest.mark.parametrize("written", range(3))
def test_a_copy_that_is_killed_among_its_last_files_goes_on(written, store, tmp_path, monkeypatch):
    def write(path: Path, text: str) -> None:
        names.append(path.name)
        if len(names) > written:
            raise KeyboardInterrupt
        write_atomic(path, text)

    names, copy = [], tmp_path / "copy"
    monkeypatch.setattr(copying, "write_atomic", write)
    with pytest.raises(KeyboardInterrupt):
        depthtok.copy(store, copy)
    monkeypatch.undo()
    assert names == ["statistics.json", "zarr.json", "zarr.json"][: written + 1]
    assert depthtok.copy(store, copy, then_verify=True).kept == 3
    assert same(store, copy)


def test_a_damaged_copy_on_a_disk_is_mended_by_what_is_said(store, tmp_path):
    copy = tmp_path / "copy"
    depthtok.copy(store, copy)
    damage = next(copy.glob("parts/*/**/c/*"))
    damage = next(path for path in (damage, *damage.rglob("*")) if path.is_file())
    damage.write_bytes(b"?" + damage.read_bytes()[1:])
    with pytest.raises(CorruptPart) as caught:
        depthtok.copy(store, copy, then_verify=True)
    assert f"depthtok verify {copy} --repair" in caught.value.remedy
    depthtok.verify(copy, repair=True)
    again = depthtok.copy(store, copy, then_verify=True)
    assert (again.parts, again.kept, again.verified) == (3, 2, 3)
    assert same(store, copy)


def test_an_object_is_the_same_bytes_and_of_the_size_foretold(store, tmp_path):
    for part in Store(store).parts():
        objects = []
        for name in ("one", "other"):
            pack(part, tmp_path / name)
            objects.append((tmp_path / name).read_bytes())
        assert objects[0] == objects[1]
        assert len(objects[0]) == packed_size(part)
        assert part.digest[:16] in object_name(part)


@pytest.mark.parametrize(
    "fault",
    [Fault("PUT .*00001", status=503), Fault("PUT .*store.json", status=503)],
    ids=["a part", "what makes it a store"],
)
def test_half_a_copy_is_no_store_and_goes_on(fault, store, url, proxy, tmp_path):
    proxy.faults.append(fault)
    with pytest.raises(SourceUnavailable, match="status 503"):
        depthtok.copy(store, url, parts_at_once=1)
    assert Contents.read(located(url)) is None
    with pytest.raises(StoreError, match="there is no store at"):
        Store(url)
    with pytest.raises(StoreError, match="there is no store at"):
        depthtok.copy(url, tmp_path / "back")
    proxy.faults.clear()
    proxy.requests.clear()
    copied = depthtok.copy(store, url, then_verify=True)
    assert copied.kept in ((1, 2) if "0000" in fault.pattern else (3,))  # one may have begun
    assert sum(line.startswith("PUT") for line in proxy.requests) == 3 - copied.kept + 1


@pytest.mark.parametrize("body", [0, 100])
def test_a_download_that_is_cut_goes_on(body, store, url, proxy, tmp_path):
    depthtok.copy(store, url)
    proxy.faults.append(Fault("GET .*00001", body=body))
    with pytest.raises(SourceUnavailable):
        depthtok.copy(url, tmp_path / "back", parts_at_once=1)
    assert not (tmp_path / "back/zarr.json").exists()
    with pytest.raises(StoreError):
        Store(tmp_path / "back")
    assert not temporaries(tmp_path / "back")
    proxy.faults.clear()
    assert depthtok.copy(url, tmp_path / "back").kept in (1, 2)  # one had begun
    assert same(store, tmp_path / "back")


def test_a_short_object_is_named(store, url, tmp_path):
    depthtok.copy(store, url)
    packed = next(iter(Contents.read(located(url)).parts.values()))
    location = located(url) / packed.file
    data = bytearray(location.read_bytes())
    data[len(data) // 2] ^= 1
    location.put(bytes(data))
    with pytest.raises(CorruptPart, match=str(location)):
        depthtok.copy(url, tmp_path / "back")
    with pytest.raises(CorruptPart, match=str(location)):
        depthtok.copy(store, url, then_verify=True)
    location.put(bytes(data[:-1]))
    with pytest.raises(CorruptPart, match=f"{location} has .* bytes, not"):
        depthtok.copy(url, tmp_path / "back")
    assert depthtok.copy(store, url, then_verify=True).kept == 2  # its size was another one


def test_a_damaged_part_is_not_copied(store, url, tmp_path):
    damaged = Path(shutil.copytree(store, tmp_path / "damaged"))
    pictures = sorted(damaged.glob("parts/*/images.bin"))[1]
    data = bytearray(pictures.read_bytes())
    data[0] ^= 1
    pictures.write_bytes(bytes(data))
    for target in (url, tmp_path / "copy"):
        with pytest.raises(CorruptPart, match="other bytes than its manifest says"):
            depthtok.copy(damaged, target)
    assert Contents.read(located(url)) is None
    assert not (tmp_path / "copy/zarr.json").exists()


def test_another_store_is_not_replaced(store, url, tmp_path):
    rlds = make_rlds(tmp_path / "set/1.0.0", depth=False)
    depthtok.convert(rlds, out=tmp_path / "other", schema="libero")  # without copied images
    depthtok.copy(store, url)
    depthtok.copy(store, tmp_path / "copy")
    for target in (url, tmp_path / "copy"):
        with pytest.raises(StaleStore, match="copy_images"):
            depthtok.copy(tmp_path / "other", target)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters/a.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        depthtok.copy(store, tmp_path / "letters")


def test_parts_that_were_made_since_are_added(store, url, tmp_path):
    part_of_it = Path(shutil.copytree(store, tmp_path / "growing"))
    last = sorted(part_of_it.glob("parts/train*"))[-1]
    last.rename(tmp_path / "away")
    assert depthtok.copy(part_of_it, url).missing == 1
    (tmp_path / "away").rename(last)
    copied = depthtok.copy(part_of_it, url)
    assert (copied.kept, copied.missing) == (2, 0)
    depthtok.copy(url, tmp_path / "back")
    assert same(store, tmp_path / "back")


def test_a_store_in_a_bucket_is_opened_through_the_cache(store, url, proxy, tmp_path):
    depthtok.copy(store, url)
    here, there = EpisodeStore(store), EpisodeStore(url)
    assert there.path.is_relative_to(tmp_path / "cache/stores")
    table = there.table(next(iter(there.parts())), "action")
    assert np.array_equal(table, here.table(next(iter(here.parts())), "action"))
    base = table
    while base.base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    clips = [one.episode(3).frames("image") for one in (here, there)]
    assert np.array_equal(*(clip.read(0, len(clip)) for clip in clips))
    proxy.requests.clear()
    EpisodeStore(url)
    assert all("store.json" in line for line in proxy.requests)  # nothing else is asked again


FETCH_SLOWLY = """
import sys, time
from depthtok.copies import copying
from depthtok.stores.store import Store
receive = copying._receive
def slowly(*arguments):
    print(flush=True)
    time.sleep(1)
    receive(*arguments)
copying._receive = slowly
Store(sys.argv[1])
"""


def test_a_process_waits_for_another_that_fetches_the_store(store, tmp_path, monkeypatch):
    pytest.importorskip("obstore")
    monkeypatch.setenv("DEPTHTOK_REMOTE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(locks, "PATIENCE_S", 0.1)
    url = f"file://{tmp_path}/packed"
    depthtok.copy(store, url)
    command = [sys.executable, "-c", FETCH_SLOWLY, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=unchecked()) as other:
        other.stdout.readline()  # it has begun
        assert Store(url).content == Store(store).content
    assert other.returncode == 0


def test_the_cache_follows_what_lies_at_the_url(store, url, tmp_path):
    rlds = make_rlds(tmp_path / "set/1.0.0", depth=False)
    depthtok.convert(rlds, out=tmp_path / "other", schema="libero")
    depthtok.copy(store, url)
    assert Store(url).fingerprint == Store(store).fingerprint
    contents = Contents.read(located(url))
    located(url).below("store.json").put(
        Contents((tmp_path / "other/zarr.json").read_text(), {}, contents.files).to_bytes()
    )
    assert Store(url).fingerprint == Store(tmp_path / "other").fingerprint


def test_a_store_larger_than_the_cache_is_not_fetched(store, url, monkeypatch, proxy):
    depthtok.copy(store, url)
    monkeypatch.setenv("DEPTHTOK_REMOTE_CACHE_GIB", "0.000001")
    with pytest.raises(StoreError, match="the cache may have"):
        Store(url)


def test_from_bucket_to_bucket_goes_by_a_disk(url):
    with pytest.raises(ConfigError, match="to or from this machine"):
        depthtok.copy(url, url)


BEFORE = Path(__file__).parents[2] / "data/before"


@pytest.mark.parametrize("kind", ["episodes", "depth", "codes"])
def test_stores_of_earlier_versions_go_there_and_back(kind, url, tmp_path):
    depthtok.copy(BEFORE / kind, url)
    there, here = (depthtok.open_store(path) for path in (url, BEFORE / kind))
    assert (type(there), there.fingerprint) == (type(here), here.fingerprint)
    assert there.content == here.content
    depthtok.copy(url, tmp_path / "back", then_verify=True)
    assert Store(tmp_path / "back").content == here.content


def test_codes_for_training_are_mapped_from_the_cache(url, tmp_path):
    depthtok.copy(BEFORE / "codes", url)
    there, here = CodeStore(url), CodeStore(BEFORE / "codes")
    assert there.codebook == here.codebook
    for part in here.parts():
        for episode in part.episodes:
            for camera in here.cameras:
                grids = [store.grid_of(episode.key, camera).codes for store in (there, here)]
                assert np.array_equal(*grids)
    opened = OpenStores.open(
        Config(), [BEFORE / "episodes"], [located(url)], [], BEFORE / "codebook"
    )
    assert [store.content for store in opened.targets] == [here.content]


def test_a_packed_store_on_a_disk_is_one_file_a_part(store, tmp_path, proxy):
    folder = tmp_path / "archive"
    folder.mkdir()
    depthtok.copy(store, f"file://{folder}/episodes", then_verify=True)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    parts = list(Store(store).parts())
    assert files == {"episodes/store.json", *(f"episodes/{object_name(part)}" for part in parts)}
    assert EpisodeStore(f"file://{folder}/episodes").content == Store(store).content
    assert proxy.requests == []
