import json
import shutil
from importlib import resources

import numpy as np
import pytest
import zarr

from depthtok.config import RunOptions
from depthtok.data import EpisodeKey
from depthtok.errors import (
    ConfigError,
    CorruptRecord,
    SourceError,
    SourceUnavailable,
)
from depthtok.sources.rlds import RldsDirectory
from depthtok.stores.codes import CodeStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.verify import verify_store
from depthtok.testing import make_rlds, tree_digest
from pipelines.config import ConvertConfig
from pipelines.convert.stage import ConvertStage
from pipelines.run import run

LENGTHS = [1, 3, 8, 2, 5]


def convert(rlds, out, **settings):
    return run(ConvertStage(RldsDirectory.open(rlds), out, ConvertConfig(**settings)), RunOptions())


def test_a_store_holds_what_the_data_set_holds(tmp_path):
    rlds = make_rlds(tmp_path / "rlds", steps=LENGTHS, shards=2)
    assert convert(rlds, tmp_path / "store").exit_code == 0
    store, source = EpisodeStore(tmp_path / "store"), RldsDirectory.open(rlds)
    raws = [raw for shard in source.splits["train"].shards for raw in source.records(shard)]
    assert store.lengths.tolist() == LENGTHS
    assert len(store) == len(raws) == 5
    for episode, raw in zip(store, raws, strict=True):
        np.testing.assert_array_equal(episode.action, raw.values("steps/action"))
        np.testing.assert_array_equal(episode.proprio, raw.values("steps/observation/state"))
        assert [episode.instruction(t) for t in range(len(raw))] == raw.text(
            "steps/language_instruction"
        )
        for camera, prefix in (("image", ""), ("wrist_image", "wrist_")):
            key = f"steps/observation/{prefix}depth"
            depth = np.stack([store.views[1].format.decode(b) for b in bytes_of(raw, key)])
            read_back = episode.frames(camera).true_depth(0, len(raw))
            np.testing.assert_allclose(read_back, depth[..., 0] / 1000, rtol=1e-6)
            assert episode.intrinsics(camera)[0, 0] == 32
    assert [store.locate(step) for step in (0, 1, 3, 4, 18)] == [
        (0, 0),
        (1, 0),
        (1, 2),
        (2, 0),
        (4, 4),
    ]


def bytes_of(raw, key):
    spans, data = raw.spans(key), raw.shard.read_bytes()
    ends = zip(spans.offset.tolist(), spans.length.tolist(), strict=True)
    return [data[start : start + length] for start, length in ends]


def test_packed_images_equal_indexed_ones(tmp_path):
    rlds = make_rlds(tmp_path / "rlds")
    convert(rlds, tmp_path / "indexed")
    convert(rlds, tmp_path / "packed", copy_images=True)
    indexed, packed = EpisodeStore(tmp_path / "indexed"), EpisodeStore(tmp_path / "packed")
    for camera in indexed.cameras:
        for one, other in zip(indexed, packed, strict=True):
            np.testing.assert_array_equal(
                one.frames(camera).read(0, 5), other.frames(camera).read(0, 5)
            )
    shutil.rmtree(rlds)
    packed.require_source()
    assert packed.episode(5).frames("image").read(0, 5).shape == (5, 32, 32, 3)
    assert next(iter(verify_store(tmp_path / "packed", images=True))).problem.startswith(
        "the data set"
    )


def test_other_clients_of_zarr_see_equal_values(whole):
    store = EpisodeStore(whole.root / "convert")
    group = zarr.open_group(whole.root / "convert", mode="r")
    assert group.attrs["depthtok"]["type"] == "episodes"
    assert sorted(group["parts"].group_keys()) == store.part_names
    for part in store.parts():
        for name in ("action", "proprio", "images", "instruction", "intrinsics"):
            values = group["parts"][part.name][name][:]
            np.testing.assert_array_equal(values, part.map(name))


def spoil_record(shard, place=0.6):
    data = bytearray(shard.read_bytes())
    data[int(len(data) * place)] ^= 1
    shard.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "failed", "reason"),
    [
        (spoil_record, 1, "checksum"),
        (lambda shard: shard.write_bytes(shard.read_bytes()[:-9]), 1, "ends"),
        (lambda shard: shard.write_bytes(b""), 2, "record 0"),
        (lambda shard: shard.write_text("version https://git-lfs.github.com/spec/v1\n"), 2, "LFS"),
    ],
)
def test_a_damaged_shard_costs_its_own_episodes(tmp_path, damage, failed, reason):
    rlds = make_rlds(tmp_path / "rlds")
    shard = sorted(rlds.glob("*.tfrecord-00001*"))[0]
    good = shard.read_bytes()
    damage(shard)
    outcome = convert(rlds, tmp_path / "store")
    assert outcome.exit_code == 1
    assert len(outcome.failures) == failed
    assert outcome.episodes == 6 - failed
    for failure in outcome.failures:
        assert reason in failure.reason
        assert shard.name in failure.reason
        assert (failure.stage, failure.key.shard) == ("convert", 1)
    stage = ConvertStage(RldsDirectory.open(rlds), tmp_path / "store", ConvertConfig())
    outcome = run(stage, RunOptions())
    assert (outcome.exit_code, outcome.made) == (1, 0), "a recorded failure stays"
    shard.write_bytes(good)
    outcome = run(stage, RunOptions())
    assert (outcome.exit_code, outcome.made, outcome.remade, outcome.kept) == (0, 1, 1, 2)
    convert(rlds, tmp_path / "fresh")
    assert tree_digest(tmp_path / "store") == tree_digest(tmp_path / "fresh")


def test_episodes_without_steps_or_with_wild_numbers_fail_alone(tmp_path):
    def edit(number, values):
        if number == 2:
            values["steps/action"][1, 3] = np.nan
        if number == 3:
            values["steps/observation/state"][0, 0] = -np.inf

    rlds = make_rlds(tmp_path / "rlds", steps=[4, 0, 4, 4, 4, 1], edit=edit)
    outcome = convert(rlds, tmp_path / "store")
    reasons = [failure.reason for failure in outcome.failures]
    assert "no steps" in reasons[0]
    assert all("not finite" in reason for reason in reasons[1:])
    assert len(reasons) == 3
    assert outcome.exit_code == 1
    assert EpisodeStore(tmp_path / "store").lengths.tolist() == [4, 4, 1]
    json.dumps(EpisodeStore(tmp_path / "store").statistics().to_json(), allow_nan=False)


def test_an_image_that_changed_is_never_shown(tmp_path):
    rlds = make_rlds(tmp_path / "rlds", shards=1)
    convert(rlds, tmp_path / "store")
    store, shard = EpisodeStore(tmp_path / "store"), next(rlds.glob("*.tfrecord*"))
    low, _high, length, _ = store.table(store.part(store.part_names[0]), "images")[0, 0].tolist()
    data = bytearray(shard.read_bytes())
    data[low + length // 2] ^= 8
    shard.write_bytes(data)
    with pytest.raises(CorruptRecord, match="changed since"):
        store.episode(0).frames("image").read(0, 1)
    assert len(list(verify_store(tmp_path / "store", images=True))) == 1
    shard.unlink()
    with pytest.raises(SourceUnavailable, match="cannot be read now"):
        EpisodeStore(tmp_path / "store").episode(0).frames("image").read(0, 1)


def test_a_data_set_that_moved_is_found_again(tmp_path):
    rlds = make_rlds(tmp_path / "rlds")
    convert(rlds, tmp_path / "store")
    rlds.rename(tmp_path / "moved")
    with pytest.raises(SourceError, match="not in") as caught:
        EpisodeStore(tmp_path / "store").require_source()
    assert "--source-root" in caught.value.remedy
    store = EpisodeStore(tmp_path / "store", source_root=tmp_path / "moved")
    store.require_source()
    assert store.episode(0).frames("image").read(0, 2).shape == (2, 32, 32, 3)
    assert convert(tmp_path / "moved", tmp_path / "store").made == 0
    EpisodeStore(tmp_path / "store").require_source()  # the new place is remembered


def test_what_is_refused(tmp_path):
    rlds = make_rlds(tmp_path / "rlds")
    with pytest.raises(ConfigError, match="no split 'tran'") as caught:
        convert(rlds, tmp_path / "store", split=("tran",))
    assert "train" in caught.value.remedy
    for shard in rlds.glob("*.tfrecord*"):
        shard.unlink()
    with pytest.raises(SourceError, match="none of its 3 shards"):
        convert(rlds, tmp_path / "store")
    empty = make_rlds(tmp_path / "empty", steps=[], shards=1)
    with pytest.raises(SourceError, match="no episodes"):
        convert(empty, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_data_set_that_nobody_knows_is_drafted(tmp_path):
    """Its unknowns stay unknown; what was begun goes on, whatever a new draft would say."""
    rlds = make_rlds(tmp_path / "rlds", name="unheard_of")
    assert convert(rlds, tmp_path / "store").made == 3
    convert(make_rlds(tmp_path / "known"), tmp_path / "same")
    drafted, known = EpisodeStore(tmp_path / "store"), EpisodeStore(tmp_path / "same")
    assert "gripper convention" in drafted.meaning.unknown
    assert "rate" in drafted.meaning.unknown
    for episode, same in zip(drafted, known, strict=True):
        one, other = episode.frames("image"), same.frames("image")
        np.testing.assert_array_equal(one.read(0, 2), other.read(0, 2))
    assert convert(rlds, tmp_path / "store").made == 0


EVIL = ["../../x", "/abs", "a\\..\\b", "x" * 300, "nul\0byte", "zarr.json", "café", "cafe\u0301"]


def test_cameras_with_evil_names_stay_inside(tmp_path, over):
    rlds = make_rlds(tmp_path / "rlds", episodes=2, shards=1, split="Tr\u00e4in ")
    cameras = [
        CAMERA % (json.dumps(name), *("", "wrist_")[n % 2 : n % 2 + 1] * 2)
        for n, name in enumerate(EVIL)
    ]
    (tmp_path / "evil.toml").write_text(SCHEMA + "".join(cameras), encoding="utf-8")
    before = set(tmp_path.parent.rglob("*"))
    path = over(rlds, tmp_path / "in" / "stores")
    run(path.stage("convert", schema=str(tmp_path / "evil.toml")), RunOptions())
    for name in ("annotate", "tokenize"):
        assert path.run(name).exit_code == 0
    outside = set(tmp_path.parent.rglob("*")) - before
    assert all(escaped.is_relative_to(tmp_path / "in") for escaped in outside)
    codes = CodeStore(path.root / "tokenize")
    assert list(codes.cameras) == EVIL
    key = EpisodeKey("libero_sim_depth", "1.0.0", "Tr\u00e4in ", 0, 1, 0)
    assert [codes.grid_of(key, name).codes.shape for name in EVIL] == [(5, 4, 4)] * len(EVIL)
    for name in ("convert", "annotate", "tokenize"):
        assert list(verify_store(path.root / name)) == []


CAMERA = """
[[camera]]
name = %s
key = "steps/observation/%simage"
orientation = "mirror"
depth_key = "steps/observation/%sdepth"
depth_unit = "mm"
"""
SCHEMA = """
datasets = ["libero_sim_depth"]
status = "unseen"
source = "a test"
licence = "none"
fps = 20.0
instruction = "steps/language_instruction"
gripper = "open-1_closed1"
[[action]]
from = "steps/action"
dims = ["x", "y", "z", "rx", "ry", "rz", "gripper"]
[[proprio]]
from = "steps/observation/state"
dims = ["x", "y", "z", "rx", "ry", "rz", "finger_left", "finger_right"]
"""


def test_colours_stored_as_bgr_are_read_as_rgb(tmp_path):
    rlds = make_rlds(tmp_path / "rlds")
    text = (resources.files("depthtok.sources.schemas") / "libero_depth.toml").read_text()
    key = 'key = "steps/observation/image"\n'
    assert key in text
    (tmp_path / "bgr.toml").write_text(text.replace(key, key + 'channels = "bgr"\n'))
    convert(rlds, tmp_path / "rgb", schema="libero_depth")
    convert(rlds, tmp_path / "bgr", schema=str(tmp_path / "bgr.toml"))
    for one, other in zip(
        EpisodeStore(tmp_path / "rgb"), EpisodeStore(tmp_path / "bgr"), strict=True
    ):
        right, turned = (e.frames("image").read(0, 2) for e in (one, other))
        np.testing.assert_array_equal(turned, right[..., ::-1])
        assert turned.flags.c_contiguous
        for read in (
            lambda e: e.frames("wrist_image").read(0, 1),
            lambda e: e.frames("image").true_depth(0, 1),
            lambda e: e.frames("image").segmentation(0, 1),
        ):
            np.testing.assert_array_equal(read(one), read(other))
    views = EpisodeStore(tmp_path / "rgb").about["views"]
    assert all("channels" not in view for view in views)  # as former versions described it


def test_files_of_another_name_are_named(tmp_path):
    rlds = make_rlds(tmp_path / "rlds")
    for shard in rlds.glob("libero*"):
        shard.rename(rlds / f"other-{shard.name}")
    stage = ConvertStage(RldsDirectory.open(rlds), tmp_path / "out", ConvertConfig())
    with pytest.raises(SourceError, match=r"none of its 3 shards .*; there are other-libero"):
        stage.work()
