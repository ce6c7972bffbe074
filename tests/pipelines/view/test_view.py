"""What `depthtok view` writes, read back with rerun's own reader, holds what the stores hold."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from rerun.chunk import RrdReader

import depthtok
from depthtok.cli.main import main
from depthtok.errors import ConfigError, OutputError, StaleStore
from depthtok.pages.colour import code_colours
from depthtok.stores.codes import CodeStore
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.filling import drop_part
from pipelines.view.gather import _named

BEFORE = Path(__file__).parents[2] / "data" / "before"
SOURCE = BEFORE / "rlds" / "1.0.0"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    depthtok.convert(SOURCE, out=folder / "episodes", schema=str(BEFORE / "schema.toml"))
    settings = {"size": 64, "device": "cpu"}
    depthtok.annotate(folder / "episodes", out=folder / "depth", estimator="dataset", **settings)
    shutil.copytree(BEFORE / "codebook", folder / "codebook")
    depthtok.tokenize(
        folder / "depth", codebook=folder / "codebook", out=folder / "codes", device="cpu"
    )
    return folder


@pytest.fixture(scope="module")
def written(root):
    depthtok.view(root / "codes", out=root / "shown.rrd")
    return read(root / "shown.rrd")


def read(path):
    """By recording and entity, the columns of all rows in order; what is static by itself."""
    reader, recordings = RrdReader(path), {}
    for store in reader.recordings():
        entities = recordings.setdefault(store.recording_id, {})
        for chunk in reader.stream(store=store).to_chunks():
            columns = entities.setdefault((chunk.entity_path, chunk.is_static), {})
            for name, values in chunk.to_record_batch().to_pydict().items():
                columns.setdefault(name, []).extend(values)
    for entities in recordings.values():
        for (_, static), columns in entities.items():
            if not static:
                order = np.argsort(columns["frame"], kind="stable")
                for name, values in columns.items():
                    columns[name] = [values[number] for number in order]
    return recordings


def pictures(columns, archetype, dtype, shape):
    """The images of an entity as one array."""
    blobs = [bytes(blob) for [blob] in columns[f"{archetype}:buffer"]]
    return np.stack([np.frombuffer(blob, dtype).reshape(shape) for blob in blobs])


def test_there_is_a_recording_of_each_episode_and_one_layout(root, written):
    keys = [str(episode.key) for episode in EpisodeStore(root / "episodes")]
    assert sorted(written) == sorted(keys)
    reader = RrdReader(root / "shown.rrd")
    assert {entry.application_id for entry in reader.recordings()} == {"depthtok before_set"}
    assert len(reader.blueprints()) == 1


def test_the_list_of_recordings_says_what_they_are_of(root, written):
    for episode in EpisodeStore(root / "episodes"):
        about = written[str(episode.key)]["/__properties/depthtok", True]
        assert about["frames"] == [[len(episode)]]
        assert about["instruction"] == [[episode.instruction()]]
        assert about["stores"][0][0] == str(root / "episodes")
        assert "missing" not in about


def test_images_are_the_files_of_the_data_set(root, written):
    store = EpisodeStore(root / "episodes")
    for episode in store:
        for camera in store.cameras:
            columns = written[str(episode.key)][f"/{camera}/rgb", False]
            files = [bytes(blob) for [blob] in columns["EncodedImage:blob"]]
            images = [store.views[store.view_index(camera, "rgb")].decode(f) for f in files]
            np.testing.assert_array_equal(images, episode.frames(camera).read(0, len(episode)))


def test_images_depth_and_codes_are_at_their_time(root, written):
    store = EpisodeStore(root / "episodes")
    for episode in store:
        for entity in ("/image/rgb", "/image/true_depth", "/image/codes"):
            columns = written[str(episode.key)][entity, False]
            assert columns["frame"] == list(range(len(episode)))
            seconds = [time.total_seconds() for time in columns["time"]]
            np.testing.assert_allclose(seconds, np.arange(len(episode)) / store.fps, atol=1e-6)


def test_depth_is_that_of_the_store_with_its_unit(root, written):
    for clip in DepthStore(root / "depth").clips("image"):
        columns = written[str(clip.key)]["/image/true_depth", False]
        shown = pictures(columns, "DepthImage", np.uint16, (64, 64))
        np.testing.assert_array_equal(shown, clip.stored(0, len(clip)))
        assert columns["DepthImage:meter"][0] == [1000]
        metres = shown[shown > 0] / columns["DepthImage:meter"][0][0]
        assert metres.min() == pytest.approx(clip.quantiles[0])


def test_codes_and_their_colours(root, written):
    codes = CodeStore(root / "codes")
    for episode in EpisodeStore(root / "episodes"):
        entities = written[str(episode.key)]
        columns = entities["/image/codes", False]
        shown = pictures(columns, "SegmentationImage", np.uint8, codes.grid)
        np.testing.assert_array_equal(shown, codes.grid_of(episode.key, "image").codes)
        [[classes]] = entities["/image/codes", True]["AnnotationContext:context"]
        infos = [entry["class_description"]["info"] for entry in classes]
        rgb = code_colours()[17].astype(int).tolist()
        assert infos[17]["id"] == 17
        assert infos[17]["color"] == int.from_bytes([*rgb, 255], "big")


def test_decoded_depth_is_what_decode_stores(root, written, tmp_path):
    depthtok.decode(root / "codes", out=tmp_path / "decoded", device="cpu")
    for clip in DepthStore(tmp_path / "decoded").clips("image"):
        columns = written[str(clip.key)]["/image/decoded_depth", False]
        shown = pictures(columns, "DepthImage", np.float16, (64, 64))
        np.testing.assert_array_equal(shown, np.maximum(clip.stored(0, len(clip)), 0))
        assert "DepthImage:meter" not in columns
    depthtok.view(tmp_path / "decoded", out=tmp_path / "of-store.rrd")
    again = read(tmp_path / "of-store.rrd")
    assert {key: set(entities) for key, entities in again.items()} == {
        key: set(entities) for key, entities in written.items()
    }


def test_columns_have_their_names_and_values_on_both_timelines(root, written):
    store = EpisodeStore(root / "episodes")
    for episode in store:
        entities = written[str(episode.key)]
        for entity, values, names in (
            ("/action", episode.action, store.action_names),
            ("/proprio", episode.proprio, store.proprio_names),
        ):
            columns = entities[entity, False]
            np.testing.assert_array_equal(columns["Scalars:scalars"], values)
            assert columns["frame"] == list(range(len(episode)))
            seconds = [time.total_seconds() for time in columns["time"]]
            np.testing.assert_allclose(seconds, np.arange(len(episode)) / store.fps, atol=1e-6)
            [shown] = entities[entity, True]["SeriesLines:names"]
            assert tuple(shown) == names


def test_instructions_are_said_where_they_change(root, written):
    for episode in EpisodeStore(root / "episodes"):
        columns = written[str(episode.key)]["/instruction", False]
        said = dict(zip(columns["frame"], (t for [t] in columns["TextDocument:text"]), strict=True))
        text = ""
        for step in range(len(episode)):
            text = said.get(step, text)
            assert text == episode.instruction(step)
        assert len(said) == len({episode.instruction(step) for step in range(len(episode))})


def test_chosen_episodes_and_the_plan(root, tmp_path):
    keys = [str(episode.key) for episode in EpisodeStore(root / "episodes")]
    done = depthtok.view(root / "depth", out=tmp_path / "two.rrd", episodes="0,4-5")
    assert (done.episodes, done.of, done.failed) == (3, 6, 0)
    assert sorted(read(tmp_path / "two.rrd")) == [keys[0], keys[4], keys[5]]
    plan = depthtok.view(root / "depth", plan=True, episodes="0")
    frames = len(EpisodeStore(root / "episodes").episode(0))
    assert (plan.episodes, plan.of, plan.frames) == (1, 6, frames)
    assert plan.size > frames * 64 * 64 * 2
    for numbers in ("6", "3-1", "all", "", "-1"):
        with pytest.raises(ConfigError, match="--episodes"):
            depthtok.view(root / "depth", plan=True, episodes=numbers)


def test_stores_of_other_episodes_are_refused(root, tmp_path):
    with pytest.raises(ConfigError, match="not of the same episodes"):
        depthtok.view([root / "depth", BEFORE / "episodes"], out=tmp_path / "x.rrd")
    other = Path(depthtok.__file__).parents[1] / "vqvae" / "demo"
    with pytest.raises(StaleStore, match="codebook"):
        depthtok.view(root / "codes", codebook=other, out=tmp_path / "x.rrd")
    with pytest.raises(ConfigError, match=r"FILE\.rrd"):
        depthtok.view(root / "codes", out=tmp_path / "x.txt")
    assert list(tmp_path.iterdir()) == []


def test_codes_alone_are_shown_and_what_is_missing_is_said(root, tmp_path):
    shutil.copytree(root / "codes", tmp_path / "codes")
    text = (tmp_path / "codes" / "zarr.json").read_text()
    moved = json.loads(text)
    assert moved["attributes"]["depthtok"]["place"]["depth"] == str(root / "depth")
    (root / "depth").rename(root / "away")
    (root / "codebook").rename(root / "book-away")
    try:
        done = depthtok.view(tmp_path / "codes", out=tmp_path / "codes.rrd")
    finally:
        (root / "away").rename(root / "depth")
        (root / "book-away").rename(root / "codebook")
    assert done.pictures == ["codes"]
    assert any("EpisodeStore" in note for note in done.notes)
    assert any("not decoded" in note for note in done.notes)
    entities = read(tmp_path / "codes.rrd").popitem()[1]
    assert {path for path, _ in entities if path != "/__properties"} >= {"/image/codes"}
    assert not any("rgb" in path for path, _ in entities)


def test_an_episode_that_cannot_be_read_is_left_out(root, tmp_path):
    """Its images changed since they were indexed."""
    source = Path(shutil.copytree(SOURCE, tmp_path / "rlds"))
    store = EpisodeStore(root / "episodes", source_root=source)
    part = store.episode(0).part
    low, high, length, _ = store.table(part, "images")[3, 0].tolist()
    shard = next(iter(store.frame_files(part)))[0]
    data = bytearray(shard.read_bytes())
    data[(low | high << 32) + length // 2] ^= 1
    shard.write_bytes(data)
    done = depthtok.view(root / "depth", source_root=source, out=tmp_path / "rest.rrd")
    assert (done.episodes, done.failed) == (5, 1)
    assert str(store.episode(0).key) not in read(tmp_path / "rest.rrd")


def test_missing_depth_is_said(root, tmp_path):
    shutil.copytree(root / "depth", tmp_path / "depth")
    drop_part(tmp_path / "depth", DepthStore(tmp_path / "depth").part_names[0])
    done = depthtok.view(tmp_path / "depth", out=tmp_path / "some.rrd")
    assert sum("does not have" in note for note in done.notes) == 3
    recordings = read(tmp_path / "some.rrd").values()
    lacking = [entities["/__properties/depthtok", True].get("missing") for entities in recordings]
    assert sum(said is not None for said in lacking) == 3


def test_the_file_is_whole_or_absent(root, tmp_path, monkeypatch):
    """A recording that rerun could not write to its end (a full disk) is no success."""
    from pipelines.view import recording

    whole = recording.Recorder.write

    def cut(self):
        whole(self)
        path = sorted(tmp_path.glob(".tmp-*/*.rrd"))[-1]
        path.write_bytes(path.read_bytes()[:-200])

    monkeypatch.setattr(recording.Recorder, "write", cut)
    with pytest.raises(OutputError, match="could not be written"):
        depthtok.view(root / "codes", out=tmp_path / "cut.rrd")
    assert list(tmp_path.iterdir()) == []


def test_without_a_screen_the_viewer_says_what_to_do(root, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "WAYLAND_SOCKET"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError) as caught:
        depthtok.view(root / "codes", episodes="0")
    assert "--out FILE.rrd" in caught.value.remedy


def test_episodes_alone_have_their_own_depth_and_decoded_images(root, tmp_path, monkeypatch):
    """Images that are no files of their own, such as frames of videos, are shown decoded."""
    monkeypatch.setattr(EpisodeStore, "encoded_frames", lambda *_: None)
    done = depthtok.view(root / "episodes", out=tmp_path / "own.rrd", episodes="2")
    assert done.pictures == ["true_depth"]
    episode = EpisodeStore(root / "episodes").episode(2)
    entities, frames = read(tmp_path / "own.rrd")[str(episode.key)], episode.frames("image")
    images = frames.read(0, len(episode))
    shown = pictures(entities["/image/rgb", False], "Image", np.uint8, images.shape[1:])
    np.testing.assert_array_equal(shown, images)
    truth = frames.true_depth(0, len(episode))
    columns = entities["/image/true_depth", False]
    shown = pictures(columns, "DepthImage", np.float32, truth.shape[1:])
    np.testing.assert_array_equal(shown, np.where(truth > 0, truth, 0))
    assert columns["DepthImage:meter"][0] == [1]


def test_two_stores_of_one_kind_are_told_apart_by_their_names(root, tmp_path):
    depthtok.annotate(
        root / "episodes", out=tmp_path / "small", estimator="dataset", size=32, device="cpu"
    )
    done = depthtok.view([root / "depth", tmp_path / "small"], out=tmp_path / "two.rrd")
    assert done.pictures == ["true_depth-depth", "true_depth-small"]
    entities = read(tmp_path / "two.rrd").popitem()[1]
    assert len(
        pictures(entities["/image/true_depth-small", False], "DepthImage", np.uint16, (32, 32))
    )


def test_stores_of_one_directory_name_are_numbered(root, tmp_path):
    stores = []
    for folder in "abcd":
        shutil.copytree(root / "codes", tmp_path / folder / "codes")
        stores.append(CodeStore(tmp_path / folder / "codes"))
    names = list(_named(("codes", store) for store in stores))
    assert names == ["codes-codes", "codes-codes-2", "codes-codes-3", "codes-codes-4"]


def test_the_command_says_what_it_wrote(root, tmp_path, capsys, monkeypatch):
    words = ["view", root / "codes", "--out", tmp_path / "a.rrd", "--episodes", "0-1"]
    monkeypatch.setattr("sys.argv", ["depthtok", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None)
    printed = capsys.readouterr().out
    assert "2 of 6 episodes" in printed
    assert "rgb, true_depth, codes, decoded_depth" in printed
    assert "--episodes NUMBERS shows others" in printed
