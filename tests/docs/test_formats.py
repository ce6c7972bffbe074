"""The snippets of docs/formats.md read a code store without this package."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from depthtok.stores.arrays import ArrayWriter, group_json
from depthtok.stores.codes import array_name, array_specs
from depthtok.stores.filling import create, write_part
from depthtok.stores.parts import PartName, ShardKey, shard_name
from depthtok.stores.spec import StoreSpec

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
FRAMES = {0: {0: 3, 2: 5}, 1: {}}  # shard -> index -> frames; the rest failed


def snippets() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def codes_of(shard: int, index: int) -> np.ndarray:
    rng = np.random.default_rng((shard, index))
    return rng.integers(256, size=(FRAMES[shard][index], 16, 16), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A directory with a small store in runs/codes, to run snippets in."""
    about = {"codebook": "0" * 64, "cameras": ["image"], "grid": [16, 16], "transform": {}}
    spec = StoreSpec("codes", "tokenize", 1, {}, about, "0" * 64, {"train": 2})
    create(tmp_path / "runs" / "codes", spec)
    for shard, episodes in FRAMES.items():

        def fill(writer, shard=shard, episodes=episodes):
            for index in episodes:
                writer.append(array_name("image"), codes_of(shard, index))
                bounds = np.array([[0.5, 2]], np.float32)
                writer.end(index, FRAMES[shard][index], range=bounds)
            writer.fail(1, "no depth")

        write_part(
            tmp_path / "runs" / "codes",
            spec,
            PartName(shard_name("train", shard, 2)),
            ShardKey("d", "1.0.0", "train", shard, 2),
            array_specs(["image"], (16, 16)),
            fill,
            upstream="",
        )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_numpy_snippet_gives_the_codes_of_every_episode(folder):
    names = {}
    exec(snippets()[0], names)
    assert set(names["codes"]) == {("train", 0, 0), ("train", 0, 2)}
    for (_, shard, index), codes in names["codes"].items():
        np.testing.assert_array_equal(codes, codes_of(shard, index))
        assert isinstance(codes, np.memmap)


def test_numpy_snippet_notices_a_changed_byte(folder):
    chunk = next((folder / "runs/codes/parts").glob("*00000-of*/codes/image/c/0/0/0"))
    data = bytearray(chunk.read_bytes())
    data[100] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(AssertionError, match="train-00000"):
        exec(snippets()[0], {})


def test_zarr_snippet_reads_the_same_store(folder, capsys):
    exec(snippets()[1], {})
    said = capsys.readouterr().out
    assert "0" * 64 in said
    assert "train-00000-of-00002.000-of-001" in said
    assert "[0.5 2. ]" in said


def test_snippets_pass_over_what_an_interrupted_run_left(folder, capsys):
    parts = folder / "runs/codes/parts"
    half_written = parts / ".tmp-train-00001-of-00002.000-of-001~host.1.2~3~4~5"
    written = ArrayWriter(
        half_written, "codes/image", array_specs(["image"], (16, 16))["codes/image"]
    )
    written.append(codes_of(0, 0))
    written.close()
    (half_written / "zarr.json").write_text(group_json({}))
    names = {}
    exec(snippets()[0], names)
    assert set(names["codes"]) == {("train", 0, 0), ("train", 0, 2)}
    exec(snippets()[1], {})
    assert "~host" not in capsys.readouterr().out


def test_the_page_names_every_field_of_root_and_manifest(folder):
    page = PAGE.read_text()
    store = folder / "runs" / "codes"
    root = json.loads((store / "zarr.json").read_text())["attributes"]["depthtok"]
    manifest = json.loads(next(store.glob("parts/*/manifest.json")).read_text())
    fields = [*root, *manifest, *root["about"], *manifest["shard"], *manifest["failed"][0]]
    assert [name for name in fields if f"`{name}`" not in page] == []
