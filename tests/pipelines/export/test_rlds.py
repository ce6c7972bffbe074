"""Exports as RLDS: what is in them, and back again."""

import json
from importlib import resources

import numpy as np
import pytest

from depthtok.data import DepthKind
from depthtok.errors import SchemaError
from depthtok.sources.rlds import RldsDirectory
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.testing import make_rlds, tree_digest
from pipelines.convert.description import requested_schema
from pipelines.export import rlds
from pipelines.inspect.summary import inspect
from tests.commands.trainings import call
from tests.pipelines.export.stores import exported, made, opened, refused

FORMAT = ("--format", "rlds", "--set", "episodes_per_shard=2")


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return made(folder, make_rlds(folder / "rlds", episodes=3, steps=3, size=64))


@pytest.fixture(scope="module")
def out(stores, tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "1.0.0"
    exported(stores, out, *FORMAT)
    return out


def test_it_holds_pictures_as_they_were_depth_and_codes(out, stores):
    episodes, depth, codes = opened(stores)
    directory = RldsDirectory.open(out)
    shards = directory.splits["train"].shards
    assert [shard.episodes for shard in shards] == [2, 1]
    source = RldsDirectory.open(stores / "rlds")
    first = [r for shard in source.splits["train"].shards for r in source.records(shard)]
    again = [r for shard in shards for r in directory.records(shard)]
    for episode, before, raw in zip(episodes, first, again, strict=True):
        path = "steps/observation/wrist_image"
        assert raw.items(path) == before.items(path)  # JPEG bytes are not encoded again
        np.testing.assert_array_equal(raw.values("steps/action"), episode.action)
        assert raw.text("steps/language_instruction") == [episode.instruction()] * 3
        assert raw.text("episode_metadata/key") == str(episode.key)
        grid = codes.grid_of(episode.key, "wrist_image")
        np.testing.assert_array_equal(raw.values(f"{path}_depth_codes"), grid.codes)
        interval = raw.values("episode_metadata/wrist_image_depth_range")
        np.testing.assert_array_equal(interval, np.float32(grid.range))
        assert raw.values("steps/is_last").tolist() == [False, False, True]
        millimetres = depth.find_clip(episode.key, "wrist_image").stored(0, 3)
        assert millimetres.shape == (3, 256, 256)
        np.testing.assert_array_equal(raw.values(f"{path}_depth")[..., 0], millimetres)


def test_another_rate_than_the_episodes_have_is_refused(stores, tmp_path):
    words = ("export", stores / "episodes", "--out", tmp_path / "out", *FORMAT)
    assert "says 20 frames per second, not 10" in refused(*words, "--set", "fps=10")
    assert not (tmp_path / "out").exists()


def test_cameras_whose_features_would_have_one_name_are_refused(stores, tmp_path):
    """Depth of `image` and the pictures of `image_depth`: one of them would be lost."""
    text = (resources.files("depthtok.sources.schemas") / "libero_depth.toml").read_text()
    schema = tmp_path / "mine.toml"
    schema.write_text(text.replace('name = "wrist_image"', 'name = "image_depth"'))
    call("convert", stores / "rlds", "--schema", schema, "--out", tmp_path / "episodes")
    depth = ["--estimator", "dataset", "--size", 64, "--out", tmp_path / "depth"]
    call("annotate", tmp_path / "episodes", *depth)
    words = ["export", tmp_path / "episodes", "--depth", tmp_path / "depth", "--format", "rlds"]
    said = refused(*words, "--out", tmp_path / "both")
    assert "steps/observation/image_depth" in said
    assert not (tmp_path / "both").exists()
    call(*words, "--camera", "image_depth", "--out", tmp_path / "one")


def test_depth_of_another_size_is_no_depth_of_the_pictures(out, stores, tmp_path):
    """It is in the export, and `convert` does not take it for that of every pixel."""
    schema = (out / "schema.toml").read_text()
    assert "# depth of 256 x 256 px, not the pictures' size:" in schema
    call("convert", out, "--schema", out / "schema.toml", "--out", tmp_path / "back")
    assert not EpisodeStore(tmp_path / "back").camera("image").has_depth


def test_it_comes_back(stores, tmp_path):
    """With depth of the pictures' size, which `convert` asks of it."""
    call(
        "annotate",
        stores / "episodes",
        "--estimator",
        "dataset",
        "--size",
        0,
        "--out",
        tmp_path / "d",
    )
    words = ("--depth", tmp_path / "d", "--out", tmp_path / "out")
    call("export", stores / "episodes", *FORMAT, *words, "--camera", "image")
    schema = tmp_path / "out/schema.toml"
    call("convert", tmp_path / "out", "--schema", schema, "--out", tmp_path / "back")
    back, first = EpisodeStore(tmp_path / "back"), EpisodeStore(stores / "episodes")
    assert list(back.cameras) == ["image"]
    assert back.meaning == first.meaning
    for again, before in zip(back, first, strict=True):
        pairs = [(e.frames("image"), e.action, e.proprio) for e in (again, before)]
        for one, other in zip(*pairs, strict=True):
            if isinstance(one, np.ndarray):
                np.testing.assert_array_equal(one, other)
            else:
                np.testing.assert_array_equal(one.read(0, 3), other.read(0, 3))
                np.testing.assert_array_equal(one.true_depth(0, 3), other.true_depth(0, 3))


def test_the_schema_that_it_brings_is_named(out, tmp_path):
    with pytest.raises(SchemaError, match="but it brings one") as error:
        requested_schema(None, "a data set that nobody knows", out, tmp_path / "new", str)
    assert error.value.remedy.endswith(f"--schema {out / 'schema.toml'}")
    assert str(out / "schema.toml") in inspect(out).facts["its own schema"]


def test_depth_that_is_no_metres_keeps_its_kind(stores, tmp_path):
    call("decode", stores / "codes", "--out", tmp_path / "d")
    call("export", stores / "episodes", *FORMAT, "--depth", tmp_path / "d", "--out", tmp_path / "o")
    store = DepthStore(tmp_path / "d")
    assert store.kind is DepthKind.DISPARITY
    record = json.loads((tmp_path / "o/depthtok.json").read_text())
    assert record["depth"]["kind"] == "disparity"
    directory = RldsDirectory.open(tmp_path / "o")
    raw = next(iter(directory.records(directory.splits["train"].shards[0])))
    stored = next(iter(store.clips("image"))).stored(0, 3)
    np.testing.assert_array_equal(raw.values("steps/observation/image_depth"), stored)
    assert "depth_key" not in (tmp_path / "o/schema.toml").read_text()


def test_stopped_it_goes_on_with_the_shards_that_are_there(out, stores, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        shard = rlds._RldsExport._shard

        def only_the_first(self, split, index, of, numbers):
            if index:
                raise RuntimeError("killed here")
            return shard(self, split, index, of, numbers)

        patched.setattr(rlds._RldsExport, "_shard", only_the_first)
        with pytest.raises(RuntimeError, match="killed here"):
            exported(stores, tmp_path / "out", *FORMAT)
    assert not (tmp_path / "out/dataset_info.json").exists()
    (first,) = (tmp_path / "out").glob("*.tfrecord*")
    time = first.stat().st_mtime_ns
    exported(stores, tmp_path / "out", *FORMAT)
    assert first.stat().st_mtime_ns == time
    assert tree_digest(tmp_path / "out") == tree_digest(out)
    assert "it was there" in exported(stores, tmp_path / "out", *FORMAT)


def test_no_data_set_is_there_before_the_record_of_what_it_is(out, stores, tmp_path, monkeypatch):
    """Without it, depth that was estimated would be taken for the data set's own."""
    with monkeypatch.context() as patched:
        write = rlds.write_atomic

        def no_record(path, data):
            if path.name == rlds.RLDS:
                raise RuntimeError("killed here")
            write(path, data)

        patched.setattr(rlds, "write_atomic", no_record)
        with pytest.raises(RuntimeError, match="killed here"):
            exported(stores, tmp_path / "out", *FORMAT)
    assert not (tmp_path / "out/dataset_info.json").exists()
    with monkeypatch.context() as patched:
        patched.setattr(rlds.RldsWriter, "finish", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            exported(stores, tmp_path / "out", *FORMAT)
    assert "it was there" not in exported(stores, tmp_path / "out", *FORMAT)
    assert tree_digest(tmp_path / "out") == tree_digest(out)


def test_pictures_of_a_video_become_jpeg(tmp_path):
    from tests.pipelines.export.stores import WRITTEN

    call("convert", WRITTEN, "--schema", WRITTEN / "schema.toml", "--out", tmp_path / "episodes")
    call("export", tmp_path / "episodes", *FORMAT, "--out", tmp_path / "out")
    directory = RldsDirectory.open(tmp_path / "out")
    raw = next(iter(directory.records(directory.splits["train"].shards[0])))
    before = EpisodeStore(tmp_path / "episodes").episode(0).frames("image").read(0, 16)
    error = np.abs(raw.values("steps/observation/image").astype(int) - before)
    assert 0 < error.mean() < 2
