"""A shard that changed is noticed, one that was copied or touched is not, and only that part is
made anew."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest

from depthtok.config import RunOptions
from depthtok.disk.bytes_of import bytes_of
from depthtok.sources import framing, tfrecord
from depthtok.sources.rlds import RldsDirectory
from depthtok.stores import lineage
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.origin import FRAMES, MADE_FROM
from depthtok.stores.spec import SEEN
from depthtok.stores.verify import verify_store
from depthtok.testing import make_rlds, tree_digest
from pipelines.config import ConvertConfig
from pipelines.convert.stage import ConvertStage
from pipelines.depth import registry
from pipelines.depth.da3.config import tiny
from pipelines.depth.da3.estimator import DA3Network
from pipelines.depth.da3.network import DA3
from pipelines.depth.single_frames.estimator import FrameEstimator
from pipelines.plan import plan
from pipelines.run import run


def convert(rlds, out, *, retry_failed=False, **settings):
    stage = ConvertStage(RldsDirectory.open(rlds), out, ConvertConfig(**settings))
    return run(stage, RunOptions(retry_failed=retry_failed))


def corrected(number, values):
    """Episode 3, in the second of three shards, has another action in its second step."""
    if number == 3:
        values["steps/action"][1, 6] *= -1


@pytest.fixture
def rlds(tmp_path):
    return make_rlds(tmp_path / "rlds")


def rebuild(rlds, **changes):
    shutil.rmtree(rlds)
    return make_rlds(rlds, **changes)


@pytest.fixture
def reads(monkeypatch):
    """What is opened of the source, in order: names of files."""
    paths_read = []

    def noting(path, **how):
        paths_read.append(path.name)
        return bytes_of(path, **how)

    for module in (tfrecord, framing):
        monkeypatch.setattr(module, "bytes_of", noting)
    return paths_read


def test_a_corrected_action_remakes_its_part_alone(rlds, tmp_path):
    convert(rlds, tmp_path / "store")
    before = {part.name: part.digest for part in EpisodeStore(tmp_path / "store").parts()}
    rebuild(rlds, edit=corrected)
    findings = list(verify_store(tmp_path / "store"))
    assert [finding.part for finding in findings] == ["train-00001-of-00003.000-of-001"]
    assert "00001-of-00003 changed since it was converted (other bytes)" in findings[0].problem
    outcome = convert(rlds, tmp_path / "store")
    assert (outcome.made, outcome.remade, outcome.kept) == (1, 1, 2)
    assert "1 of 3 shards changed since they were converted" in outcome.notes[0]
    after = {part.name: part.digest for part in EpisodeStore(tmp_path / "store").parts()}
    assert [name for name in after if after[name] != before[name]] == [findings[0].part]
    assert list(verify_store(tmp_path / "store")) == []
    convert(rlds, tmp_path / "fresh")
    assert tree_digest(tmp_path / "store") == tree_digest(tmp_path / "fresh")
    assert convert(rlds, tmp_path / "store").notes == []


def test_nothing_is_read_of_what_did_not_change(rlds, tmp_path, reads):
    convert(rlds, tmp_path / "store")
    reads.clear()
    assert convert(rlds, tmp_path / "store").kept == 3
    assert reads == []


def test_a_touched_shard_is_checked_once(rlds, tmp_path, reads):
    convert(rlds, tmp_path / "store")
    touched = sorted(rlds.glob("*.tfrecord*"))[2]
    os.utime(touched, ns=(1, 1))
    reads.clear()
    for checked in ([touched.name], []):
        outcome = convert(rlds, tmp_path / "store")
        assert (outcome.made, outcome.kept, outcome.notes) == (0, 3, [])
        assert reads == checked
        reads.clear()


def test_a_copied_data_set_is_the_same_and_gives_the_same_store(rlds, tmp_path, reads):
    convert(rlds, tmp_path / "store")
    parts = tree_digest(tmp_path / "store" / "parts")
    shutil.copytree(rlds, tmp_path / "copy", copy_function=shutil.copyfile)
    reads.clear()
    assert convert(tmp_path / "copy", tmp_path / "store").kept == 3
    assert len(reads) == 3
    assert convert(tmp_path / "copy", tmp_path / "store").kept == 3
    assert len(reads) == 3
    assert tree_digest(tmp_path / "store" / "parts") == parts
    convert(tmp_path / "copy", tmp_path / "of the copy")
    assert tree_digest(tmp_path / "of the copy" / "parts") == parts


@pytest.mark.parametrize("content", [None, b"", b"[1, 2]", b'{"train-00000-of-00003": 3}', b"\xff"])
def test_what_is_remembered_may_be_lost(rlds, tmp_path, content):
    convert(rlds, tmp_path / "store")
    record = tmp_path / "store" / SEEN
    remembered = json.loads(record.read_text())
    assert len(remembered) == 3
    record.unlink()
    if content is not None:
        record.write_bytes(content)
    assert list(verify_store(tmp_path / "store")) == []
    assert convert(rlds, tmp_path / "store").kept == 3
    assert json.loads(record.read_text()).items() >= remembered.items()


def test_a_memory_that_is_not_of_this_part_is_not_believed(rlds, tmp_path):
    """Another job, or a part put back from a backup: the size and time are right, the digest is
    that of another part."""
    convert(rlds, tmp_path / "store")
    shutil.copytree(tmp_path / "store" / "parts", tmp_path / "old parts")
    rebuild(rlds, edit=corrected)
    convert(rlds, tmp_path / "store")
    shutil.rmtree(tmp_path / "store" / "parts")
    (tmp_path / "old parts").rename(tmp_path / "store" / "parts")
    assert convert(rlds, tmp_path / "store").remade == 1


def test_another_size_needs_no_reading(rlds, tmp_path, reads):
    convert(rlds, tmp_path / "store")
    rebuild(rlds, steps=[5, 5, 5, 4, 5, 5])
    reads.clear()
    todo = plan(
        ConvertStage(RldsDirectory.open(rlds), tmp_path / "store", ConvertConfig()), RunOptions()
    )
    assert (todo.parts, todo.parts_there) == (1, 2)
    outcome = convert(rlds, tmp_path / "store")
    assert (outcome.remade, outcome.kept) == (1, 2)
    assert "bytes, not" in outcome.notes[1]
    assert EpisodeStore(tmp_path / "store").lengths.tolist() == [5, 5, 5, 4, 5, 5]


def test_counts_that_are_stated_otherwise_are_a_change(rlds, tmp_path):
    info = rlds / "dataset_info.json"
    text = info.read_text()
    content = json.loads(text)
    content["splits"][0]["shardLengths"][1] = "3"
    info.write_text(json.dumps(content))
    assert len(convert(rlds, tmp_path / "store").failures) == 1
    info.write_text(text)
    outcome = convert(rlds, tmp_path / "store")
    assert (outcome.remade, outcome.failures, outcome.exit_code) == (1, [], 0)


def test_a_shard_that_changed_twice_back_is_the_first_again(rlds, tmp_path):
    first = tree_digest(convert(rlds, tmp_path / "store").out)
    shutil.copytree(rlds, tmp_path / "kept")
    rebuild(rlds, edit=corrected)
    convert(rlds, tmp_path / "store")
    assert tree_digest(tmp_path / "store") != first
    shutil.rmtree(rlds)
    shutil.copytree(tmp_path / "kept", rlds)
    assert convert(rlds, tmp_path / "store").remade == 1
    assert tree_digest(tmp_path / "store") == first


def test_shards_that_are_away_leave_parts_as_they_are(rlds, tmp_path):
    convert(rlds, tmp_path / "store")
    shard = sorted(rlds.glob("*.tfrecord*"))[0]
    shard.rename(tmp_path / "away")
    outcome = convert(rlds, tmp_path / "store")
    assert (outcome.made, outcome.kept, outcome.exit_code) == (0, 3, 0)
    assert f"1 shards are not there now (first: {shard.name})" in outcome.notes[0]
    (finding,) = verify_store(tmp_path / "store")
    assert (finding.part, finding.note) == ("", False)
    assert f"{shard.name} is not there" in finding.problem


def test_depth_is_kept_where_only_actions_changed(rlds, over):
    path = over(rlds)
    path.run_all()
    depth = tree_digest(path.root / "annotate")
    rebuild(rlds, edit=corrected)
    assert path.run("convert").remade == 1
    assert (path.run("annotate").made, path.run("tokenize").made) == (0, 0)
    assert tree_digest(path.root / "annotate") == depth
    for name in ("convert", "annotate", "tokenize"):
        assert list(verify_store(path.root / name)) == []


def test_depth_and_codes_are_remade_where_pictures_changed(rlds, over):
    path = over(rlds)
    path.run_all()

    def darker(number, values):
        if number == 5:
            depth = values["steps/observation/depth"]
            values["steps/observation/depth"] = [np.maximum(frame, 900) for frame in depth]

    rebuild(rlds, edit=darker)
    assert [outcome.remade for outcome in path.run_all()] == [1, 1, 1]
    parts = [next(iter(EpisodeStore(path.root / "convert").parts()))]
    assert parts[0].meta[FRAMES].keys() >= {"image/rgb", "image/depth"}
    assert "digest" in parts[0].meta[MADE_FROM]
    assert list(verify_store(path.root / "tokenize")) == []


def longer(number, values):
    """Episode 3 has another focal length; its pictures are the same."""
    if number == 3:
        for camera in ("", "wrist_"):
            values[f"episode_metadata/{camera}camera_intrinsics"][[0, 4]] *= 2


@pytest.mark.parametrize(("focal_px", "remade"), [(0.0, 1), (32.0, 0)])
def test_metres_by_the_focal_length_of_the_data_are_remade_with_it(
    rlds, over, monkeypatch, focal_px, remade
):
    """They are kept where it is stated, or only actions changed."""
    network = DA3(dataclasses.replace(tiny(), metric=True))
    entry = dataclasses.replace(
        registry.find("da3-metric-large"),
        build=lambda weights, run, device: FrameEstimator(DA3Network(network, run, device)),
    )
    monkeypatch.setitem(registry.ESTIMATORS, "da3-metric-large", entry)
    path = over(rlds)
    settings = {"estimator": "da3-metric-large", "input_size": 28, "focal_px": focal_px}

    def annotate():
        return run(path.stage("annotate", **settings), RunOptions())

    path.run("convert")
    assert (annotate().made, annotate().kept) == (3, 3)
    rebuild(rlds, edit=corrected)
    assert (path.run("convert").remade, annotate().made) == (1, 0)
    before = list(DepthStore(path.root / "annotate").parts())
    rebuild(rlds, edit=longer)
    assert path.run("convert").remade == 1
    stale = lineage.outdated(DepthStore(path.root / "annotate"))
    assert (len(stale), bool(list(verify_store(path.root / "annotate")))) == (remade, bool(remade))
    outcome = annotate()
    assert (outcome.made, outcome.remade, outcome.exit_code) == (remade, remade, 0)
    after = list(DepthStore(path.root / "annotate").parts())
    changed = [one.digest != two.digest for one, two in zip(before, after, strict=True)]
    assert changed == [False, bool(remade), False]
    assert list(verify_store(path.root / "annotate")) == []


def test_metres_of_which_no_intrinsics_are_recorded_are_not_kept(rlds, over):
    """Former versions recorded the frames alone; of other estimators that is all they are of."""
    path = over(rlds)
    path.run_all()
    part = next(iter(DepthStore(path.root / "annotate").parts()))
    work = next(iter(path.stage("annotate").work()))
    frames = {name: digest for name, digest in work.made_of.items() if "absent" not in name}
    part.meta[FRAMES] = frames
    assert work.same_source(part)
    by_focal = {**work.made_of, "image/intrinsics": "0"}
    assert not dataclasses.replace(work, made_of=by_focal).same_source(part)
    part.meta["absent"] = {"wrist_image": [0]}
    assert not work.same_source(part)
