"""Exports as LeRobot v3.0: beside a set that lerobot wrote of the same frames, and back again."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from depthtok.cli.main import app
from depthtok.config import RunOptions
from depthtok.data import DepthKind
from depthtok.disk.digests import file_sha256
from depthtok.errors import OutputError, StaleStore
from depthtok.frames.depth_codes import DepthCodes
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.testing import make_rlds, tree_digest
from pipelines.export import lerobot
from pipelines.run import run
from pipelines.videos import VideoStage
from tests.commands.trainings import call
from tests.lerobot_sets import SCHEMA, picture, write_v3, write_video
from tests.pipelines.export.stores import (
    WRITTEN,
    code_columns,
    exported,
    info,
    made,
    opened,
    refused,
    rows,
)

RGB, DEPTH = "observation.images.image", "observation.depth.image"
CODES = "observation.depth_codes.main"
STEP_M = 1.05e-3  # the widest step of the codes at the depths of this set, up to 2.4 m


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    return made(tmp_path_factory.mktemp("stores"), WRITTEN, WRITTEN / "schema.toml")


@pytest.fixture(scope="module")
def encoded(stores, tmp_path_factory):
    """An export whose pictures are encoded anew, with MolmoAct2's columns."""
    out = tmp_path_factory.mktemp("encoded") / "set"
    settings = ("copy=false", "crf=12", "molmoact=image")
    exported(stores, out, *(word for s in settings for word in ("--set", s)))
    return out


@pytest.fixture(scope="module")
def copied(stores, tmp_path_factory):
    out = tmp_path_factory.mktemp("copied") / "set"
    assert "packets of 2 of 2 videos are copied" in exported(stores, out)
    return out


def test_it_is_described_as_lerobot_describes_its_own(encoded):
    """But for the name of the codes, and what differs in how the videos were encoded."""
    ours, theirs = info(encoded), info(WRITTEN)
    theirs["features"][CODES] = theirs["features"].pop("observation.depth_codes.agent")
    differ = {key for key in theirs if ours[key] != theirs[key]}
    assert differ == {"features"}
    for key in theirs["features"]:
        feature, reference = ours["features"][key], theirs["features"][key]
        assert (feature["dtype"], feature["shape"]) == (reference["dtype"], reference["shape"])
        about = reference.get("info", {})
        same = {name: value for name, value in about.items() if name in feature.get("info", {})}
        same.pop("video.extra_options", None)
        if key == RGB:
            assert same.pop("video.crf") == 30
            assert feature["info"]["video.crf"] == 12
        assert same.items() <= feature.get("info", {}).items()
        assert not about or {"is_depth_map", "video.codec", "video.pix_fmt"} <= same.keys()
    assert ours["features"]["action"]["names"][-1] == "gripper"


def test_tables_have_the_columns_and_types_of_lerobots(copied):
    for name in ("data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet"):
        ours, theirs = (pq.read_schema(root / name) for root in (copied, WRITTEN))
        renamed = {f.name.replace("depth_codes.agent", "depth_codes.main"): f.type for f in theirs}
        assert {field.name: field.type for field in ours} == renamed
    ours, theirs = (pq.read_schema(root / "meta/tasks.parquet") for root in (copied, WRITTEN))
    assert ours.names == theirs.names
    about = [json.loads(schema.metadata[b"pandas"]) for schema in (ours, theirs)]
    assert about[0]["index_columns"] == about[1]["index_columns"] == ["task"]
    assert rows(copied / "meta/tasks.parquet") == rows(WRITTEN / "meta/tasks.parquet")


def test_values_and_places_are_those_that_lerobot_wrote(copied):
    name = "data/chunk-000/file-000.parquet"
    ours, theirs = pq.read_table(copied / name), pq.read_table(WRITTEN / name)
    for column in ("action", "observation.state", "timestamp", "frame_index", "index"):
        assert ours[column].to_pylist() == theirs[column].to_pylist()
    for column in ("episode_index", "task_index"):
        assert ours[column].to_pylist() == theirs[column].to_pylist()
    name = "meta/episodes/chunk-000/file-000.parquet"
    for mine, reference in zip(rows(copied / name), rows(WRITTEN / name), strict=True):
        for key, value in mine.items():
            if not key.startswith("stats/"):
                assert value == reference[key], key


def test_statistics_are_lerobots(copied):
    """Lerobot counts the quantiles of an episode in bins, and takes pictures before they are
    encoded; over all episodes it has the mean of the quantiles, of actions and states too."""
    ours, theirs = (json.loads((r / "meta/stats.json").read_text()) for r in (copied, WRITTEN))
    for key, figures in theirs.items():
        for name, value in figures.items():
            if "codes" in key:
                continue
            mine, reference = np.array(ours[key][name]), np.array(value)
            assert mine.shape == reference.shape
            if name == "count":
                assert mine == reference
            elif key in (RGB, DEPTH) and name not in ("min", "max"):
                np.testing.assert_allclose(mine, reference, atol=0.012, err_msg=f"{key} {name}")
            elif key not in (RGB, DEPTH) and name[0] != "q":
                np.testing.assert_allclose(mine, reference, atol=1e-4, err_msg=f"{key} {name}")
    table = pq.read_table(copied / "data/chunk-000/file-000.parquet")
    for key in ("action", "observation.state"):
        expected = np.quantile(np.array(table[key].to_pylist()), (0.01, 0.1, 0.5), axis=0)
        got = [ours[key][name] for name in ("q01", "q10", "q50")]
        np.testing.assert_allclose(got, expected, atol=1e-7)


@pytest.mark.parametrize("which", ["encoded", "copied"])
def test_it_comes_back(which, stores, tmp_path, request):
    out = request.getfixturevalue(which)
    call("convert", out, "--schema", out / "schema.toml", "--out", tmp_path / "episodes")
    back, (episodes, depth, codes) = EpisodeStore(tmp_path / "episodes"), opened(stores)
    assert back.meaning == episodes.meaning
    assert back.cameras == episodes.cameras
    of_codes = code_columns(out, CODES)
    for again, first, of_episode in zip(back, episodes, of_codes, strict=True):
        np.testing.assert_array_equal(again.action, first.action)
        np.testing.assert_array_equal(again.proprio, first.proprio)
        assert again.instruction(3) == first.instruction(3)
        frames, before = (e.frames("image").read(0, len(first)) for e in (again, first))
        error = np.abs(frames.astype(int) - before)
        assert error.mean() < (1.5 if which == "encoded" else 1e-9)
        true = depth.find_clip(first.key, "image").read().values
        np.testing.assert_allclose(
            again.frames("image").true_depth(0, len(first)), true, atol=STEP_M / 2
        )
        grid = codes.grid_of(first.key, "image").codes
        np.testing.assert_array_equal(of_episode, grid.reshape(len(first), -1))


def test_codes_of_a_depth_video_are_lerobots_own(copied):
    """The formula of the format, in double precision; and the video holds them without loss."""
    metres = np.linspace(0.011, 9.99, 5000, dtype=np.float32)
    codes = DepthCodes(0.01, 10.0, 3.5, True)
    share = np.log((metres.astype(float) + 3.5) / 3.51) / np.log(13.5 / 3.51)
    expected = share * 4095
    assert np.abs(codes.codes(metres) - expected).max() <= 0.502  # float32 at a border
    assert codes.codes(np.array([0, 0.001, 11, 99], np.float32)).tolist() == [0, 0, 4095, 4095]
    linear = DepthCodes(0.5, 4.5, 0.0, False)
    assert linear.codes(np.array([0.5, 2.5, 4.5], np.float32)).tolist() == [0, 2048, 4095]
    assert info(copied)["features"][DEPTH]["info"]["depth_unit"] == "m"


def test_molmoacts_columns(encoded, stores):
    codes, buffer, mask = (
        code_columns(encoded, key)[0]
        for key in ("depth_codes", "buffer_codes", "depth_updated_mask")
    )
    np.testing.assert_array_equal(codes, buffer)
    assert codes.dtype == np.int16
    assert mask[0].all()
    np.testing.assert_array_equal(mask[1:], np.diff(codes, axis=0) != 0)


def test_the_record_says_what_lerobot_has_no_place_for(copied, stores):
    record = json.loads((copied / "meta/depthtok.json").read_text())
    episodes, _, codes = opened(stores)
    assert record["codes"]["codebook"] == codes.codebook
    assert record["features"]["image"]["codes"] == CODES
    assert record["depth"]["estimator"]["name"] == "dataset"
    for name, (size, sha256) in record["files"].items():
        assert (copied / name).stat().st_size == size
        assert file_sha256(copied / name) == sha256
    for row, episode in zip(rows(copied / "meta/depthtok_episodes.parquet"), episodes, strict=True):
        low, high = codes.grid_of(episode.key, "image").range
        assert (row["range/image/low"], row["range/image/high"]) == (low, high)
        assert (row["key"], row["absent"]) == (str(episode.key), [])


def test_again_it_is_there_and_elsewhere_it_has_the_same_bytes(encoded, stores, tmp_path):
    digest = tree_digest(encoded)
    settings = ("--set", "copy=false", "--set", "crf=12", "--set", "molmoact=image")
    assert "it was there" in exported(stores, encoded, *settings)
    exported(stores, tmp_path / "set", *settings, "--threads", 1)
    assert tree_digest(tmp_path / "set") == digest == tree_digest(encoded)


def test_other_settings_and_other_places_are_refused(encoded, stores, tmp_path):
    with pytest.raises(StaleStore, match="other settings"):
        exported(stores, encoded, "--set", "crf=13")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="is not empty, and no export"):
        exported(stores, tmp_path)
    said = refused(
        "export", stores / "episodes", "--out", tmp_path / "x", "--set", "molmoact=image"
    )
    assert "there are no codes of camera 'image'" in said


@pytest.mark.parametrize("step", ["_write_videos", "write_meta"])
def test_stopped_it_is_no_data_set_and_goes_on(step, stores, tmp_path, monkeypatch):
    out = tmp_path / "set"

    def stop(*_):
        raise RuntimeError("killed here")

    with monkeypatch.context() as patched:
        patched.setattr(lerobot, step, stop)
        with pytest.raises(RuntimeError, match="killed here"):
            exported(stores, out)
    assert not (out / "meta/info.json").exists()
    schema = ("--schema", WRITTEN / "schema.toml")
    said = refused("convert", out, *schema, "--out", tmp_path / "no")
    assert "is not an RLDS data set" in said
    assert "it is an export that was stopped" in said
    times = {path: path.stat().st_mtime_ns for path in (out / ".export").rglob("*.mp4")}
    assert len(times) == 4
    exported(stores, out)
    assert not (out / ".export").exists()
    exported(stores, tmp_path / "at_once")
    assert tree_digest(out) == tree_digest(tmp_path / "at_once")


def test_it_is_cut_into_files_by_size(stores, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.export.layout.MB", 1000)
    monkeypatch.setattr("pipelines.export.lerobot_meta.MB", 1000)
    monkeypatch.setattr(lerobot, "AT_A_TIME", 1)
    out = tmp_path / "set"
    exported(stores, out, "--set", "data_file_mb=40", "--set", "video_file_mb=20")
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("file-*"))
    assert [name for name in names if name.startswith("data")] == [
        f"data/chunk-000/file-{n:03d}.parquet" for n in (0, 1)
    ]
    assert len([name for name in names if name.endswith(".mp4")]) == 4
    second = rows(out / "meta/episodes/chunk-000/file-001.parquet")[0]
    assert (second["data/file_index"], second[f"videos/{DEPTH}/file_index"]) == (1, 1)
    assert second[f"videos/{RGB}/from_timestamp"] == 0
    assert (second["dataset_from_index"], second["meta/episodes/file_index"]) == (16, 1)
    call("convert", out, "--schema", out / "schema.toml", "--out", tmp_path / "back")
    back, (episodes, *_) = EpisodeStore(tmp_path / "back"), opened(stores)
    frames = [s.episode(1).frames("image").read(0, 16) for s in (back, episodes)]
    np.testing.assert_array_equal(*frames)


def test_videos_with_frames_out_of_order_are_copied_where_they_can_be(tmp_path):
    """Key frames every 5 frames: episodes of 5 and 10 begin and end on them, those after one of 7
    do not."""
    write_v3(tmp_path / "set", [5, 10, 7, 8])
    video = tmp_path / "set/videos/observation.images.top/chunk-000/file-000.mp4"
    write_video(video, [picture(0, step % 15) for step in range(30)])
    (tmp_path / "schema.toml").write_text(SCHEMA)
    call(
        "convert", tmp_path / "set", "--schema", tmp_path / "schema.toml", "--out", tmp_path / "ep"
    )
    said = call("export", tmp_path / "ep", "--out", tmp_path / "out", "--set", "codec=h264")
    assert "top: packets of 2 of 4 videos are copied" in said
    keys = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
    episode_rows = rows(tmp_path / "out/meta/episodes/chunk-000/file-000.parquet")
    of_video = [
        [row[f"videos/observation.images.top/{key}"] for key in keys] for row in episode_rows
    ]
    assert of_video == [[0, 0, 0, 0.5], [0, 0, 0.5, 1.5], [0, 1, 0, 0.7], [0, 1, 0.7, 1.5]]
    schema = tmp_path / "out/schema.toml"
    call("convert", tmp_path / "out", "--schema", schema, "--out", tmp_path / "back")
    back, first = EpisodeStore(tmp_path / "back"), EpisodeStore(tmp_path / "ep")
    for number in range(4):
        pair = [
            s.episode(number).frames("top").read(0, int(s.lengths[number])) for s in (back, first)
        ]
        error = np.abs(pair[0].astype(int) - pair[1]).mean()
        assert error == 0 if number < 2 else 0 < error < 6


def test_a_bad_episode_is_recorded_and_left_out(tmp_path):
    stores = made(tmp_path, make_rlds(tmp_path / "rlds", episodes=3, steps=3, size=64))
    shard = next((tmp_path / "rlds").glob("*.tfrecord-00001-*"))
    data = bytearray(shard.read_bytes())
    at = data.index(b"\xff\xd8\xff") + 300
    data[at] ^= 255
    shard.write_bytes(bytes(data))
    said = exported(stores, tmp_path / "out", "--json", code=1)
    told = json.loads(said[said.index("{\n") :])
    assert (told["episodes"], told["frames"]) == (2, 6)
    assert "/00001-of-00003/00000" in told["failures"][0]["key"]
    assert info(tmp_path / "out")["total_episodes"] == 2
    keys = [row["key"][-20:] for row in rows(tmp_path / "out/meta/depthtok_episodes.parquet")]
    assert keys == ["00000-of-00003/00000", "00002-of-00003/00000"]
    names = [
        f["codes"]
        for f in json.loads((tmp_path / "out/meta/depthtok.json").read_text())["features"].values()
    ]
    assert names == ["observation.depth_codes.main", "observation.depth_codes.wrist"]


def test_what_does_not_fit_is_refused(stores, tmp_path):
    other = made(tmp_path, make_rlds(tmp_path / "rlds", episodes=2, steps=3, size=64))
    words = ("export", stores / "episodes", "--out", tmp_path / "out")
    assert "the episodes of lerobot_v3" in refused(*words, "--codes", other / "codes")
    assert not (tmp_path / "out").exists()
    call("decode", stores / "codes", "--out", tmp_path / "disparity")
    assert DepthStore(tmp_path / "disparity").kind is DepthKind.DISPARITY
    said = refused(*words, "--depth", tmp_path / "disparity")
    assert "holds disparity, depth videos of LeRobot are in metres" in said
    shutil.rmtree(next((stores / "codes/parts").glob("train*")), ignore_errors=False)
    assert "lacks 1 of its parts" in refused(*words, "--codes", stores / "codes")


@pytest.mark.parametrize("form", ["lerobot", "rlds"])
def test_episodes_without_actions_are_exported_without(form, tmp_path):
    """As those that `annotate` makes of videos; nothing that fails is suggested then."""
    for number in range(3):
        path = tmp_path / f"films/one/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((64, 64, 3), 40 * number, np.uint8)).save(path)
    run(VideoStage(tmp_path / "films", tmp_path / "episodes"), RunOptions())
    words = ["export", tmp_path / "episodes", "--format", form, "--set", "fps=10"]
    if form == "lerobot":
        words_of_no_video = [*words[:-1], "fps=0.0007123456789", "--out", tmp_path / "set"]
        assert "a rate that no video can have" in refused(*words_of_no_video)
    result = CliRunner().invoke(app, [*map(str, words), "--out", str(tmp_path / "set")])
    assert result.exit_code == 0, result.output
    assert "convert" not in result.output
    assert "has no actions" in (tmp_path / "set/schema.toml").read_text()
    if form == "lerobot":
        assert "action" not in info(tmp_path / "set")["features"]
        names = pq.read_schema(tmp_path / "set/data/chunk-000/file-000.parquet").names
        assert "timestamp" in names
        assert "action" not in names


def test_codes_of_an_absent_camera_are_no_codes(tmp_path):
    def dark(number, values):
        if number == 1:
            wrist = "steps/observation/wrist_image"
            values[wrist] = np.zeros_like(values[wrist])

    source = make_rlds(tmp_path / "rlds", episodes=2, steps=3, size=64, shards=1, edit=dark)
    exported(made(tmp_path, source), tmp_path / "out")
    wrist = code_columns(tmp_path / "out", "observation.depth_codes.wrist")
    assert wrist[0].min() >= 0
    assert (wrist[1] == -1).all()
    table = rows(tmp_path / "out/meta/depthtok_episodes.parquet")
    assert [row["absent"] for row in table] == [[], ["wrist_image"]]
    assert table[1]["range/wrist_image/low"] is None
    call(
        "convert",
        tmp_path / "out",
        "--schema",
        tmp_path / "out/schema.toml",
        "--out",
        tmp_path / "b",
    )
    assert EpisodeStore(tmp_path / "b").absent_counts() == {"wrist_image": 1}
