"""Codes of an export come back into a CodeStore: equal, with codebook, ranges and what they are
made of; and not where the export is not what was written."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from depthtok.errors import ConfigError, SourceError, StaleStore
from depthtok.stores.codes import CodeStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.lineage import source_of
from depthtok.stores.verify import verify_store
from depthtok.testing import make_rlds, tree_digest
from pipelines.provenance import estimator_of
from tests.commands.trainings import DEMO, MICRO, call, lines, training
from tests.pipelines.export.stores import exported, made, refused

PARQUET = "data/chunk-000/file-000.parquet"


def without_a_wrist(number, values):
    if number == 1:
        wrist = "steps/observation/wrist_image"
        values[wrist] = np.zeros_like(values[wrist])


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return made(
        folder, make_rlds(folder / "rlds", episodes=3, steps=3, size=64, edit=without_a_wrist)
    )


@pytest.fixture(scope="module", params=["lerobot", "rlds"])
def back(request, stores, tmp_path_factory):
    """A folder with an export (`set`), the episodes of it and their codes."""
    folder = tmp_path_factory.mktemp(request.param)
    exported(stores, folder / "set", "--format", request.param, "--set", "episodes_per_shard=2")
    schema = folder / "set/schema.toml"
    call("convert", folder / "set", "--schema", schema, "--out", folder / "episodes")
    said = call("tokenize", folder / "episodes", "--codebook", DEMO, "--out", folder / "codes")
    assert f"--episodes {folder / 'episodes'} --codes {folder / 'codes'}" in said
    return folder


def test_they_are_equal_with_their_codebook_ranges_and_absent_cameras(stores, back):
    first, again = CodeStore(stores / "codes"), CodeStore(back / "codes")
    assert (again.codebook, again.grid, again.cameras) == (
        first.codebook,
        first.grid,
        first.cameras,
    )
    assert again.transform == first.transform
    for name in ("codes", "depth_kind", "gate"):
        assert again.about[name] == first.about[name]
    assert again.absent_counts() == first.absent_counts() == {"wrist_image": 1}
    pairs = zip(EpisodeStore(stores / "episodes"), EpisodeStore(back / "episodes"), strict=True)
    for before, episode in pairs:
        for camera in first.cameras:
            one, other = first.find_grid(before.key, camera), again.find_grid(episode.key, camera)
            assert (one is None) == (other is None)
            if one and other:
                np.testing.assert_array_equal(other.codes, one.codes)
                assert (other.codebook, other.range) == (one.codebook, one.range)


def test_they_are_bound_to_the_episodes_and_say_what_made_the_depth(stores, back):
    again = CodeStore(back / "codes")
    source = source_of(again)
    assert source is not None
    assert source.path == back / "episodes"
    assert list(verify_store(back / "codes")) == []
    made_by = estimator_of(CodeStore(stores / "codes"))
    assert made_by is not None
    assert made_by["name"] == "dataset"
    assert estimator_of(again) == made_by
    shutil.copytree(back / "codes", back / "elsewhere")  # the record goes with the codes
    assert estimator_of(CodeStore(back / "elsewhere")) == made_by


def test_a_training_takes_them(back, tmp_path):
    (back / "micro.toml").write_text(MICRO)
    call(*training(back, tmp_path / "run", "--steps", 1, "--force"))
    assert len(lines(tmp_path / "run")) == 1


def test_again_the_store_has_the_same_bytes(back, tmp_path):
    digest = tree_digest(back / "codes")
    words = ("tokenize", back / "episodes", "--codebook", DEMO, "--out")
    assert "0 parts made" in call(*words, back / "codes")
    call(*words, tmp_path / "codes")
    assert tree_digest(tmp_path / "codes") == digest == tree_digest(back / "codes")


def test_another_codebook_and_what_is_for_depth_are_refused(back, tmp_path):
    words = ("tokenize", back / "episodes", "--codebook", DEMO, "--out", tmp_path / "no")
    said = refused(*words, "--sticky", 0.3)
    assert "whose codes are in their data set: nothing is encoded" in said
    with pytest.raises(ConfigError, match="whose codes are in their data set") as error:
        call(*words, "--verify-sample", 2)
    assert "--verify-sample" in error.value.remedy
    with pytest.raises(ConfigError, match="brings no codes of camera 'side'"):
        call(*words, "--camera", "side")
    shutil.copytree(back / "set", tmp_path / "set")
    record = next(p for p in (tmp_path / "set").rglob("depthtok.json"))
    content = json.loads(record.read_text())
    content["codes"]["codebook"] = "0" * 64
    record.write_text(json.dumps(content))
    with pytest.raises(StaleStore, match="are of codebook 000000000000, not of"):
        call(*words, "--source-root", tmp_path / "set")
    assert not (tmp_path / "no").exists()


def test_data_without_codes_or_without_their_record_are_refused(stores, back, tmp_path):
    words = ("--codebook", DEMO, "--out", tmp_path / "no")
    with pytest.raises(SourceError, match="it is no export of depthtok's"):
        call("tokenize", stores / "episodes", *words)
    shutil.copytree(back / "set", tmp_path / "set")
    record = next(p for p in (tmp_path / "set").rglob("depthtok.json"))
    content = json.loads(record.read_text())
    moved = ("tokenize", back / "episodes", *words, "--source-root", tmp_path / "set")
    del content["codes"]["about"]
    record.write_text(json.dumps(content))
    with pytest.raises(SourceError, match="an earlier depthtok wrote it"):
        call(*moved)
    del content["codes"]
    record.write_text(json.dumps(content))
    with pytest.raises(SourceError, match="was exported without codes"):
        call(*moved)


def test_codes_that_were_changed_are_refused_and_not_taken(stores, tmp_path):
    """Even where `convert` read them so: the record has the digests of what was written."""
    exported(stores, tmp_path / "set")
    file = tmp_path / "set" / PARQUET
    table = pq.read_table(file)
    name = "observation.depth_codes.main"
    values = table[name].to_pylist()
    values[0][5] ^= 1
    column = table.schema.get_field_index(name)
    pq.write_table(
        table.set_column(column, name, pa.array(values, table.schema.field(column).type)), file
    )
    schema = tmp_path / "set/schema.toml"
    call("convert", tmp_path / "set", "--schema", schema, "--out", tmp_path / "episodes")
    words = ("tokenize", tmp_path / "episodes", "--codebook", DEMO, "--out", tmp_path / "codes")
    with pytest.raises(StaleStore, match=r"file-000\.parquet is not as it was exported"):
        call(*words)
    assert CodeStore(tmp_path / "codes").missing()


def test_an_export_that_changed_since_is_refused(back, tmp_path):
    shutil.copytree(back / "set", tmp_path / "set")
    (file,) = {*(tmp_path / "set").glob(PARQUET), *(tmp_path / "set").glob("*tfrecord-00000*")}
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    words = ("tokenize", back / "episodes", "--codebook", DEMO, "--out", tmp_path / "codes")
    with pytest.raises(StaleStore, match=r"changed since it was converted|not as it was exported"):
        call(*words, "--source-root", tmp_path / "set")


def test_steps_that_the_schema_leaves_out_have_no_codes(stores, back, tmp_path):
    text = (back / "set/schema.toml").read_text()
    (tmp_path / "one.toml").write_text(text + "\n[keep]\ndrop_first = 1\n")
    text = (tmp_path / "one.toml").read_text()
    call("convert", back / "set", "--schema", tmp_path / "one.toml", "--out", tmp_path / "episodes")
    words = ("tokenize", tmp_path / "episodes", "--codebook", DEMO, "--out", tmp_path / "codes")
    call(*words)
    first, again = CodeStore(stores / "codes"), CodeStore(tmp_path / "codes")
    keys = [e.key for e in EpisodeStore(stores / "episodes")]
    for before, episode in zip(keys, EpisodeStore(tmp_path / "episodes"), strict=True):
        codes = again.grid_of(episode.key, "image").codes
        np.testing.assert_array_equal(codes, first.grid_of(before, "image").codes[1:])
