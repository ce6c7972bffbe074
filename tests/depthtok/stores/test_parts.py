"""A part: what is written is read, what failed leaves no row, what changed is refused."""

from pathlib import Path

import numpy as np
import pytest

from depthtok.disk.digests import DigestMemory
from depthtok.errors import CorruptPart
from depthtok.stores.arrays import ArraySpec
from depthtok.stores.manifest import MANIFEST, pack_manifest, unpack_manifest
from depthtok.stores.part_writer import PartWriter, without
from depthtok.stores.parts import Part, PartName, ShardKey, shard_name

NAME, SHARD = PartName("train-00001-of-00003", 0, 2), ShardKey("toy", "1.0.0", "train", 1, 3)
ARRAYS = {
    "code": ArraySpec("uint8", (2,)),
    "depth": ArraySpec("float32", (4, 4), stream=True),
    "range": ArraySpec("float32", (2,), per_episode=True),
}


def episode(writer: PartWriter, index: int, frames: int) -> None:
    """Rows that tell their episode, in two blocks."""
    for count in (frames // 2, frames - frames // 2):
        writer.append("code", np.full((count, 2), index, np.uint8))
        writer.append("depth", np.full((count, 4, 4), index, np.float32))
    writer.end(index, frames, range=np.float32([index, frames]))


@pytest.fixture
def path(tmp_path):
    """Episodes 0, 2 and 3 of 3, 300 and 1 frames; episode 1 failed half way."""
    folder = tmp_path / str(NAME)
    folder.mkdir()
    writer = PartWriter(folder, NAME, SHARD, "toys", ARRAYS)
    episode(writer, 0, 3)
    writer.append("depth", np.ones((290, 4, 4), np.float32))
    writer.fail(1, "it broke")
    episode(writer, 2, 300)
    episode(writer, 3, 1)
    writer.close("f" * 64, upstream="u")
    return folder


def test_a_failed_episode_leaves_its_reason_and_no_row(path):
    part = Part(path, DigestMemory())
    assert [(e.key.index, e.row, e.start, e.frames) for e in part.episodes] == [
        (0, 0, 0, 3),
        (2, 1, 3, 300),
        (3, 2, 303, 1),
    ]
    assert part.map("code")[:, 0].tolist() == [0] * 3 + [2] * 300 + [3]
    np.testing.assert_array_equal(part.read("depth")[:, 1, 1], part.map("code")[:, 0])
    assert part.map("range").tolist() == [[0, 3], [2, 300], [3, 1]]
    (failure,) = part.failures
    assert str(failure.key) == "toy/1.0.0/train/00001-of-00003/00001"
    assert (failure.stage, failure.reason) == ("toys", "it broke")
    assert part.verify() == []


@pytest.mark.parametrize(
    "meta",
    [
        {"absent": ["image"]},
        {"absent": {"image": 3}},
        {"absent": {"image": ["0"]}},
        {"frames": ["image/rgb"]},
        {"frames": {"image/rgb": 3}},
    ],
)
def test_notes_of_another_type_are_refused_as_the_part_is_opened(path, meta):
    content, _ = unpack_manifest((path / MANIFEST).read_bytes(), path)
    sound = {k: v for k, v in content.items() if k != "sha256"}
    (path / MANIFEST).write_bytes(pack_manifest({**sound, "meta": meta}))
    with pytest.raises(CorruptPart):
        Part(path, DigestMemory())


def test_rows_are_read_from_the_files_that_hold_them(path):
    part = Part(path, DigestMemory())
    np.testing.assert_array_equal(part.read("depth", 2, 5)[:, 0, 0], [0, 2, 2])
    (path / "depth" / "c" / "0" / "0" / "0").unlink()
    assert Part(path, DigestMemory()).read("depth", 256, 304).shape == (48, 4, 4)
    with pytest.raises(CorruptPart, match="is missing"):
        Part(path, DigestMemory()).read("depth", 0, 1)


def test_maps_cannot_be_written_to(path):
    with pytest.raises(ValueError, match="read-only"):
        Part(path, DigestMemory()).map("code")[0] = 1


def test_a_part_under_another_name_is_refused(path):
    moved = path.rename(path.with_name(str(PartName("train-00002-of-00003"))))
    with pytest.raises(CorruptPart, match="holds part"):
        Part(moved, DigestMemory())


def test_verify_names_what_is_bad(path):
    (path / "stranger").write_text("")
    (path / "code" / "zarr.json").write_text("{}")
    (path / "range" / "zarr.json").unlink()
    bad = Part(path, DigestMemory()).verify()
    assert [problem.removeprefix(f"{path}/").split(" ")[0] for problem in bad] == [
        "code/zarr.json",
        "range/zarr.json",
        "stranger",
    ]


def test_any_changed_byte_of_a_manifest_is_noticed(path):
    data = (path / MANIFEST).read_bytes()
    content, digest = unpack_manifest(data, path)
    assert pack_manifest(content) == data
    assert digest in data.decode()
    for position in np.random.default_rng(0).integers(len(data), size=50):
        spoiled = bytearray(data)
        spoiled[position] ^= 1
        with pytest.raises(CorruptPart, match="damaged"):
            unpack_manifest(bytes(spoiled), path)


@pytest.mark.parametrize(
    "text", ["", "parts", "zarr.json", "train", ".tmp-x", "train-1-of-2.0-of-1"]
)
def test_other_names_are_no_parts(text):
    assert PartName.parse(text) is None
    with pytest.raises(ValueError, match="is no name of a part"):
        PartName.of(text)


def test_names_of_parts_come_back():
    for split in ("train", "Tr\u00e4in ", "a.b-00001-of-00002"):
        name = PartName(shard_name(split, 7, 12_345_678), 3, 1000)
        assert PartName.parse(str(name)) == PartName.of(str(name)) == name


def test_reasons_do_not_say_where_the_data_lay():
    roots = [Path("/data/set"), Path("set")]
    reason = without(
        roots, "/data/set/a/b.tfrecord: broken, as set/c is; reset/d and /x/set/e stay"
    )
    assert reason == "a/b.tfrecord: broken, as c is; reset/d and /x/set/e stay"
