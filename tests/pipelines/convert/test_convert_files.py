"""convert of LeRobot data sets and HDF5 demonstrations: frames, files that change, costs."""

import hashlib
import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import av
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from depthtok.config import RunOptions
from depthtok.errors import CorruptRecord, SchemaError, SourceUnavailable, StoreError
from depthtok.format import human_bytes
from depthtok.frames import hdf5
from depthtok.sources.opening import open_files
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.frame_files import files_with
from depthtok.stores.verify import verify_store
from pipelines.annotate.stage import AnnotateStage
from pipelines.config import AnnotateConfig, ConvertConfig
from pipelines.convert import changes
from pipelines.convert.description import DRAFTED
from pipelines.convert.files import FilesStage
from pipelines.plan import plan
from pipelines.run import run
from tests.lerobot_sets import RATE, SCHEMA, picture, write_v2, write_v3, write_video
from tests.shares import fails_from_now_on

REAL = Path(__file__).parents[2] / "data/lerobot_v3"
TOP = "observation.images.top"


def stage(root: Path, out: Path, **settings) -> FilesStage:
    schema = root / "schema.toml"
    if not schema.exists():
        schema.write_text(SCHEMA)
    return FilesStage(open_files(root), out, ConvertConfig(schema=str(schema), **settings))


def convert(root: Path, out: Path, **settings):
    return run(stage(root, out, **settings), RunOptions())


def frames(store: EpisodeStore, camera: str = "top") -> list[np.ndarray]:
    return [episode.frames(camera).read(0, len(episode)) for episode in store]


def by_time(path: Path) -> dict[int, np.ndarray]:
    """Plain PyAV, by the number of the frame period."""
    with av.open(str(path)) as file:
        return {
            round(float(f.pts * f.time_base) * RATE): f.to_ndarray(format="rgb24")
            for f in file.decode(video=0)
        }


def test_a_schema_with_another_rate_than_the_data_set_is_said(tmp_path):
    root = write_v3(tmp_path / "set", [3])
    assert [*stage(root, tmp_path / "ep")._rates()] == []
    file = root / "meta/info.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "fps": 2 * RATE}))
    said = stage(root, tmp_path / "ep").watch().notes
    assert f"says {RATE:g} steps a second, the data set itself {2 * RATE:g}" in said[0]


def test_a_copy_with_the_name_of_an_rlds_set_gets_a_draft(tmp_path):
    """`viola` is shipped, for the features that RLDS gives it."""
    copy = FilesStage(
        open_files(write_v3(tmp_path / "viola", [3])), tmp_path / "ep", ConvertConfig()
    )
    assert (copy.schema.name, copy.schema.cameras[0].key) == (DRAFTED, TOP)
    with pytest.raises(SchemaError, match="schema 'libero', data set 'viola'"):
        _ = replace(copy, config=ConvertConfig(schema="libero")).schema


def test_every_frame_of_v3_is_that_of_lerobots_own_reader(tmp_path):
    convert(REAL, tmp_path / "ep")
    store, reader = EpisodeStore(tmp_path / "ep"), json.loads((REAL / "reader.json").read_text())
    row = 0
    for episode in store:
        clip = episode.frames("image")
        order = np.random.default_rng(1).permutation(len(episode)).tolist()
        for step in [*range(len(episode)), *order]:
            rgb = clip.read(step, step + 1)[0]
            assert hashlib.sha256(rgb.tobytes()).hexdigest() == reader["rgb"][row + step]
            depth = clip.true_depth(step, step + 1)[0].astype(np.float64)
            millimetres = np.rint(depth * 1000).astype("<u2")
            digest = hashlib.sha256(millimetres.tobytes()).hexdigest()
            assert digest == reader["depth_mm"][row + step]
        row += len(episode)
    assert row == 32
    assert store.fps == 20
    mean = store.statistics().action.mean
    np.testing.assert_allclose(mean, np.mean(reader["action"], axis=0), atol=1e-6)
    assert [finding.problem for finding in verify_store(tmp_path / "ep", images=True)] == []


def test_every_frame_of_v2_is_that_of_its_time(tmp_path):
    root = write_v2(tmp_path / "set", [5, 9])
    convert(root, tmp_path / "ep")
    for index, read in enumerate(frames(EpisodeStore(tmp_path / "ep"))):
        reference = by_time(root / f"videos/chunk-000/{TOP}/episode_{index:06d}.mp4")
        np.testing.assert_array_equal(read, [reference[step] for step in range(len(read))])


def test_episodes_that_share_a_video_have_their_own_frames(tmp_path):
    root = write_v3(tmp_path / "set", [5, 9, 4])
    convert(root, tmp_path / "ep")
    reference, first = by_time(root / f"videos/{TOP}/chunk-000/file-000.mp4"), 0
    for read in frames(EpisodeStore(tmp_path / "ep")):
        expected = [reference[first + step] for step in range(len(read))]
        np.testing.assert_array_equal(read, expected)
        first += len(read)


def test_pictures_in_the_parquet_keep_their_bytes(tmp_path):
    root = write_v3(tmp_path / "set", [5, 9, 4], "image")
    convert(root, tmp_path / "ep")
    convert(root, tmp_path / "packed", copy_images=True)
    for name in ("ep", "packed"):
        store = EpisodeStore(tmp_path / name)
        for index, episode in enumerate(store):
            for step in [*range(len(episode)), 2, 0]:
                read = episode.frames("top").read(step, step + 1)[0]
                np.testing.assert_array_equal(read, picture(index, step))
        assert [f.problem for f in verify_store(tmp_path / name, images=True)] == []
    shutil.rmtree(root / "data")
    np.testing.assert_array_equal(frames(store)[1][8], picture(1, 8))


def test_packed_frames_of_videos_are_the_same_bytes_every_time(tmp_path):
    root = write_v3(tmp_path / "set", [5, 9, 4])
    for name in ("a", "b"):
        convert(root, tmp_path / name, copy_images=True)
    parts = [sorted((tmp_path / name / "parts").rglob("*")) for name in ("a", "b")]
    for one, other in zip(*parts, strict=True):
        assert one.is_dir() or one.read_bytes() == other.read_bytes()
    shutil.rmtree(root / "videos")
    read = frames(EpisodeStore(tmp_path / "a"))
    assert np.abs(read[1][3].astype(int) - picture(1, 3)).mean() < 4
    convert(REAL, tmp_path / "depth", copy_images=True)
    convert(REAL, tmp_path / "lying")
    packed, lying = (next(iter(EpisodeStore(tmp_path / n))) for n in ("depth", "lying"))
    depth = [episode.frames("image").true_depth(0, 4) for episode in (packed, lying)]
    np.testing.assert_array_equal(*depth)


def test_a_rerun_keeps_parts_and_remakes_those_of_changed_files(tmp_path):
    root = write_v2(tmp_path / "set", [5, 9, 4])
    assert convert(root, tmp_path / "ep").made == 3
    again = convert(root, tmp_path / "ep")
    assert (again.made, again.kept) == (0, 3)
    for path in root.rglob("*.mp4"):
        path.touch()
    assert convert(root, tmp_path / "ep").made == 0  # other times, the same bytes
    video = root / f"videos/chunk-000/{TOP}/episode_000001.mp4"
    write_video(video, [picture(7, step) for step in range(9)])
    findings = [finding.part for finding in verify_store(tmp_path / "ep")]
    assert findings == ["train-00001-of-00003.000-of-001"]
    again = convert(root, tmp_path / "ep")
    assert (again.made, again.remade, again.kept) == (1, 1, 2)
    assert any("episode_000001.parquet or its videos" in note for note in again.notes)
    assert frames(EpisodeStore(tmp_path / "ep"))[1][0, 0, 0, 0] > 150


def rewrite(file: Path, column: str, values: list) -> None:
    table = pq.read_table(file)
    number = table.schema.get_field_index(column)
    pq.write_table(table.set_column(number, column, pa.array(values)), file)


@pytest.mark.parametrize("changed", ["tasks", "times", "split", "nothing of these"])
def test_a_part_is_made_anew_where_the_metadata_say_something_else_of_it(tmp_path, changed):
    root, out = write_v3(tmp_path / "set", [5, 9, 6, 6]), tmp_path / "ep"
    convert(root, out, split=("train",))
    before = frames(EpisodeStore(out))
    described, listing = root / "meta/info.json", root / "meta/episodes/chunk-000/file-000.parquet"
    if changed == "tasks":
        rewrite(root / "meta/tasks.parquet", "task", ["do 0", "say it better"])
    elif changed == "times":
        rewrite(listing, f"videos/{TOP}/from_timestamp", [0.0, 0.5, 2.0, 1.4])
    elif changed == "split":
        text = described.read_text()
        described.write_text(text.replace('"train": "0:4"', '"train": "0:3", "val": "3:4"'))
    else:
        content = {"task_index": pa.array([0, 1, 2]), "task": pa.array(["do 0", "do 1", "new"])}
        pq.write_table(pa.table(content), root / "meta/tasks.parquet")
    outcome = convert(root, out, split=("train",))
    store = EpisodeStore(out)
    anew = {"tasks": 2, "times": 1, "split": 1, "nothing of these": 0}[changed]
    assert (outcome.remade, outcome.kept) == (anew, 2 - anew)
    reason = "1 episodes are listed, not 2" if changed == "split" else "other metadata"
    assert any(reason in note for note in outcome.notes) == bool(anew)
    assert len(store) == (3 if changed == "split" else 4)
    odd = "say it better" if changed == "tasks" else "do 1"
    assert [e.instruction() for e in store] == ["do 0", odd, "do 0", odd][: len(store)]
    if changed == "times":
        np.testing.assert_array_equal(frames(store)[2:], before[:1:-1])
    assert convert(root, out, split=("train",)).kept == 2


def test_parts_that_do_not_say_what_the_metadata_were_are_kept(tmp_path):
    root = write_v3(tmp_path / "set", [5, 9, 4])
    convert(root, tmp_path / "ep")
    rewrite(root / "meta/tasks.parquet", "task", ["do 0", "say it better"])
    parts = {part.name: part for part in EpisodeStore(tmp_path / "ep").parts()}
    for older in (False, True):
        watch = stage(root, tmp_path / "ep").watch()
        watch.look(list(parts), parts)
        assert set(watch.changed.values()) == (set() if older else {"other metadata"})
        for part in parts.values():
            part.meta["made_from"].pop("metadata", None)


def test_files_that_are_not_there_cost_their_parts_only(tmp_path):
    root = write_v2(tmp_path / "set", [5, 9, 4])
    video = root / f"videos/chunk-000/{TOP}/episode_000001.mp4"
    video.rename(tmp_path / "away.mp4")
    outcome = convert(root, tmp_path / "ep")
    assert outcome.made == 2
    assert outcome.given_up == {"train-00001-of-00003.000-of-001": f"{video} is not there"}
    (tmp_path / "away.mp4").rename(video)
    assert convert(root, tmp_path / "ep").made == 1


def test_depth_needs_the_videos_of_its_own_cameras_alone(tmp_path):
    root = shutil.copytree(REAL, tmp_path / "set")
    convert(root, tmp_path / "ep")
    store = EpisodeStore(tmp_path / "ep")
    (part,) = store.parts()
    colour, depth = (
        root / f"videos/{key}/chunk-000/file-000.mp4"
        for key in ("observation.images.image", "observation.depth.image")
    )
    views, rows = [store.view_index("image", "depth")], store.table(part, "images")
    assert {colour, depth} < {path for path, _ in store.frame_files(part)}
    assert [path for path, _ in store.files_with(part, views, 0, 32)] == [depth]
    (view,) = (store.views[number] for number in views)
    either = np.concatenate([rows[:2, :1], rows[2:, 1:]])  # as where videos follow on one another
    for start, stop, files in ((0, 2, {colour}), (2, 9, {depth}), (0, 9, {colour, depth})):
        some = files_with(part, root, [view], lambda a=start, b=stop: either[a:b])
        assert {path for path, _ in some} == files
    colour.unlink()
    config = AnnotateConfig(estimator="dataset", size=0)
    annotate = AnnotateStage(store, tmp_path / "depth", config, "cpu")
    assert (run(annotate, RunOptions()).made, run(annotate, RunOptions()).kept) == (1, 1)
    depth.unlink()
    outcome = run(replace(annotate, out=tmp_path / "again"), RunOptions())
    assert outcome.given_up == {part.name: f"{depth} is not there"}


def test_a_file_of_many_parts_is_looked_at_once(tmp_path, monkeypatch):
    looks = []
    monkeypatch.setattr(changes, "status_of", lambda path: looks.append(path))
    watch = changes.ImageWatch(lambda name: [(tmp_path / "video.mp4", 9)])
    watch.look(["a", "b", "c"], {})
    assert (len(looks), sorted(watch.absent)) == (1, ["a", "b", "c"])


def test_a_damaged_video_fails_its_episodes_and_says_so(tmp_path):
    root = write_v2(tmp_path / "set", [5, 9])
    write_video(root / f"videos/chunk-000/{TOP}/episode_000001.mp4", [picture(1, 0)] * 6)
    outcome = convert(root, tmp_path / "ep")
    (failure,) = outcome.failures
    assert failure.key.index == 1
    assert "has no frame at 0.6000 s (step 6)" in failure.reason
    assert str(tmp_path) not in failure.reason
    assert len(EpisodeStore(tmp_path / "ep")) == 1


def test_a_video_that_changes_after_convert_is_noticed_when_read(tmp_path):
    root = write_v2(tmp_path / "set", [5])
    convert(root, tmp_path / "ep")
    write_video(
        root / f"videos/chunk-000/{TOP}/episode_000000.mp4", [picture(3, k) for k in range(5)]
    )
    with pytest.raises(CorruptRecord, match=r"rgb of top, step 0: .*changed since it was indexed"):
        frames(EpisodeStore(tmp_path / "ep"))


def test_a_column_that_holds_no_pictures_any_more_is_noticed_when_read(tmp_path):
    root = write_v3(tmp_path / "set", [5], "image")
    convert(root, tmp_path / "ep")
    (file,) = root.glob("data/*/*")
    rewrite(file, TOP, [b"png"] * 5)
    with pytest.raises(CorruptRecord, match=f"row 0 of {TOP} holds no picture"):
        frames(EpisodeStore(tmp_path / "ep"))
    pq.write_table(pq.read_table(file).drop_columns([TOP]), file)
    with pytest.raises(CorruptRecord, match="cannot be read"):
        frames(EpisodeStore(tmp_path / "ep"))


@pytest.mark.parametrize("damage", ["no video", "no frames"])
def test_a_video_that_is_none_any_more_is_a_finding_and_ends_no_check(tmp_path, damage):
    root = write_v2(tmp_path / "set", [5, 6])
    convert(root, tmp_path / "ep")
    first, second = (root / f"videos/chunk-000/{TOP}/episode_{k:06d}.mp4" for k in (0, 1))
    if damage == "no video":
        first.write_bytes(bytes(first.stat().st_size))
    else:
        with av.open(str(first), "w", options={"movflags": "faststart"}) as out:
            stream = out.add_stream("libx264", rate=RATE)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture(0, 0))))
            out.mux(stream.encode())
        data = first.read_bytes()
        first.write_bytes(data[: data.index(b"mdat") + 4])  # the index alone
    second.write_bytes(bytes(second.stat().st_size))
    store = EpisodeStore(tmp_path / "ep")
    (found,), others = (list(store.check_frames(part, 0)) for part in store.parts())
    assert ("is not a video" if damage == "no video" else "has no frames") in found.problem
    assert ["is not a video" in error.problem for error in others] == [True]


def test_a_camera_of_one_flat_colour_is_absent(tmp_path):
    root = write_v2(tmp_path / "set", [5, 4])
    write_video(
        root / f"videos/chunk-000/{TOP}/episode_000001.mp4", [np.zeros((48, 64, 3), np.uint8)] * 4
    )
    assert convert(root, tmp_path / "ep").absent == {"top": 1}
    assert [episode.absent("top") for episode in EpisodeStore(tmp_path / "ep")] == [False, True]


def test_flags_of_the_data_set_say_which_camera_an_episode_lacks(tmp_path):
    root = write_v2(tmp_path / "set", [5, 4, 3])
    described = json.loads((root / "meta/info.json").read_text())
    described["features"]["has_top"] = {"dtype": "bool", "shape": [1], "names": None}
    (root / "meta/info.json").write_text(json.dumps(described))
    for file, flag in zip(sorted(root.glob("data/*/*")), (True, False, True), strict=True):
        table = pq.read_table(file)
        pq.write_table(table.append_column("has_top", pa.array([flag] * len(table))), file)
    black = [np.zeros((48, 64, 3), np.uint8)] * 3
    write_video(root / f"videos/chunk-000/{TOP}/episode_000002.mp4", black)
    (root / "schema.toml").write_text(
        SCHEMA.replace(f'key = "{TOP}"', f'key = "{TOP}"\npresent_key = "has_top"')
    )
    outcome = convert(root, tmp_path / "ep")
    assert [e.absent("top") for e in EpisodeStore(tmp_path / "ep")] == [False, True, True]
    assert outcome.flags_against_pictures == {"top": {"seen": 1, "blank": 1}}


def test_stages_travel_to_workers(tmp_path):
    before = stage(write_v3(tmp_path / "set", [5, 9, 4]), tmp_path / "ep")
    work = before.work()
    assert pickle.loads(pickle.dumps(before)).work() == work


def test_the_plan_says_what_frames_cost_as_they_lie_and_packed(tmp_path):
    root = write_v3(tmp_path / "set", [5, 9, 4])
    lying = plan(stage(root, tmp_path / "a"), RunOptions())
    packed = plan(stage(root, tmp_path / "b", copy_images=True), RunOptions())
    assert packed.bytes > 3 * lying.bytes
    for planned in (lying, packed):
        note, of_cache = planned.notes
        assert " ms in order and " in note
        assert "--copy-images, which writes" in note
        assert f"takes {human_bytes(3 * 224 * 224)} a step at 224 px" in of_cache
        assert f"  {note}" in planned.lines()
    store = convert(root, tmp_path / "b", copy_images=True)
    assert packed.bytes == pytest.approx(store.bytes, rel=0.35)


def test_depth_of_another_unit_and_kinds_of_the_future_are_refused(tmp_path):
    text = (REAL / "schema.toml").read_text().replace('depth_unit = "m"', 'depth_unit = "mm"')
    (tmp_path / "mm.toml").write_text(text)
    other = ConvertConfig(schema=str(tmp_path / "mm.toml"))
    with pytest.raises(SchemaError, match="decoded to metres, not 'mm'"):
        _ = FilesStage(open_files(REAL), tmp_path / "ep", other).spec
    convert(REAL, tmp_path / "ep")
    root = tmp_path / "ep/zarr.json"
    content = root.read_text().replace('"kind": "video"', '"kind": "hologram"')
    root.write_text(content)
    with pytest.raises(StoreError):
        EpisodeStore(tmp_path / "ep")


DEMOS = """
datasets = ["demos"]
status = "unseen"
fps = "unknown"
{instruction}
gripper = "none"

[[camera]]
name = "front"
key = "obs/agentview_rgb"
orientation = "unknown"

[[action]]
from = "actions"
dims = ["a", "b"]

[[proprio]]
from = "obs/ee_states"
dims = ["x", "y", "z"]
"""


def write_demos(path: Path, lengths: list[int], **compressed: object) -> Path:
    """A file in LIBERO's layout."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["problem_info"] = json.dumps({"language_instruction": ["pick ", "the bowl"]})
        for number, steps in enumerate(lengths):
            demo = data.create_group(f"demo_{number}")
            demo["actions"] = np.arange(2.0 * steps).reshape(steps, 2) / 10
            demo["obs/ee_states"] = np.full((steps, 3), number, np.float64)
            shown = np.stack([picture(number, step) for step in range(steps)])
            demo.create_dataset("obs/agentview_rgb", data=shown, **compressed)
    return path


@pytest.mark.parametrize("compressed", [{}, {"compression": "gzip", "chunks": (4, 48, 64, 3)}])
def test_hdf5_demonstrations(tmp_path, compressed):
    root = tmp_path / "demos"
    write_demos(root / "one.hdf5", [6, 5], **compressed)
    write_demos(root / "two.hdf5", [12], **compressed)
    (root / "schema.toml").write_text(DEMOS.format(instruction='instruction = "task"'))
    outcome = convert(root, tmp_path / "ep")
    assert (outcome.made, outcome.episodes, outcome.steps) == (2, 3, 23)
    store = EpisodeStore(tmp_path / "ep")
    assert [e.instruction() for e in store] == ["pick the bowl"] * 3
    assert [str(e.key) for e in store][2] == "demos/0/train/00001-of-00002/00000"
    for number, episode in zip((0, 1, 0), store, strict=True):
        steps = len(episode)
        read = episode.frames("front").read(0, steps)
        np.testing.assert_array_equal(read, [picture(number, step) for step in range(steps)])
        last = episode.frames("front").read(steps - 1, steps)[0]
        np.testing.assert_array_equal(last, picture(number, steps - 1))
        expected = np.arange(2.0 * steps).reshape(steps, 2) / 10
        np.testing.assert_array_equal(episode.action, expected.astype(np.float32))
    assert "reference" in " ".join(store.meaning.unknown)
    assert [f.problem for f in verify_store(tmp_path / "ep", images=True)] == []
    convert(root, tmp_path / "packed", copy_images=True)
    np.testing.assert_array_equal(
        *(frames(EpisodeStore(tmp_path / n), "front")[1] for n in ("ep", "packed"))
    )


def test_demonstrations_that_are_not_as_the_first_or_lie_elsewhere_fail_alone(tmp_path):
    file = write_demos(tmp_path / "set" / "demos.hdf5", [6, 5, 4, 3, 2])
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(48 * 64 * 3 * 5))
    with h5py.File(file, "a") as opened:
        frames = np.zeros((6, 20, 20, 3), np.uint8)
        del opened["data/demo_1/obs/agentview_rgb"], opened["data/demo_2/obs/agentview_rgb"]
        opened["data/demo_1/obs/agentview_rgb"] = frames[:5]
        external = [(str(secret), 0, 48 * 64 * 3 * 4)]
        opened["data/demo_2/obs"].create_dataset(
            "agentview_rgb", (4, 48, 64, 3), np.uint8, external=external
        )
        write_demos(tmp_path / "other.hdf5", [3])
        del opened["data/demo_3"]
        opened["data/demo_3"] = h5py.ExternalLink("../other.hdf5", "data/demo_0")
    (file.parent / "schema.toml").write_text(DEMOS.format(instruction='instruction = "task"'))
    outcome = convert(file.parent, tmp_path / "ep")
    assert [f.key.index for f in outcome.failures] == [1, 2, 3]
    sizes, *elsewhere = [failure.reason for failure in outcome.failures]
    assert "has frames uint8 (20, 20, 3), not uint8 (48, 64, 3)" in sizes
    assert all("lies in another file" in reason for reason in elsewhere)
    assert [len(episode) for episode in EpisodeStore(tmp_path / "ep")] == [6, 2]


def test_a_demonstration_of_other_things_than_arrays_fails_alone(tmp_path):
    file = write_demos(tmp_path / "set" / "demos.hdf5", [6, 5, 4, 3, 2, 1])
    with h5py.File(file, "a") as opened:
        del opened["data/demo_1/actions"], opened["data/demo_2/actions"], opened["data/demo_3"]
        opened["data/demo_1/actions"] = 3.0
        opened["data/demo_2/actions/arm"] = np.zeros((4, 2))
        opened["data/demo_3"] = 3.0
        del opened["data/demo_4/actions"]
        opened["data/demo_4/actions"] = h5py.ExternalLink("nowhere.hdf5", "actions")
    dataset = open_files(file.parent)
    (group,) = dataset.groups("train", [])
    episodes = dict(dataset.episodes(group, []))
    for number in (1, 2):
        assert f"demo_{number}, actions is no array" in episodes[number].problem
    for number in (3, 4):
        assert f"demo_{number} cannot be read" in episodes[number].problem
    assert [len(episodes[number]) for number in (0, 5)] == [6, 1]


def test_a_share_that_is_away_ends_the_run_and_is_no_failure_of_demonstrations(tmp_path):
    file = write_demos(tmp_path / "demos.hdf5", [12, 12, 12])
    dataset = open_files(file)
    (group,) = dataset.groups("train", [])
    episodes = dataset.episodes(group, ["obs/agentview_rgb"])
    assert len(next(episodes)[1]) == 12
    fails_from_now_on(file)
    with pytest.raises(SourceUnavailable, match="cannot be read now"):
        next(episodes)


@pytest.mark.parametrize(("number", "step"), [(0, 11), (1, 0)])
def test_a_share_that_is_away_is_no_damage_of_a_frame(tmp_path, number, step):
    file = write_demos(tmp_path / "demos.hdf5", [12, 12])
    reader = hdf5.DemoReader(file, "obs/agentview_rgb")
    reader.frame(0, 0)
    fails_from_now_on(file)
    with pytest.raises(SourceUnavailable, match="cannot be read now"):
        reader.frame(number, step)


def test_what_of_demonstrations_is_not_taken_is_said(tmp_path):
    file = write_demos(tmp_path / "lift.hdf5", [6, 5])
    assert open_files(file).notes == ()
    with h5py.File(file, "a") as opened:
        opened["mask/valid"], opened["mask/train"] = ["demo_1"], ["demo_0"]
        opened.move("data/demo_1", "data/demo_01")
    dataset = open_files(file)
    assert dataset.files == {"lift.hdf5": (0,)}
    masks, names = dataset.notes
    assert masks.startswith("lists of demonstrations in `mask` (train, valid) are not read")
    assert names.startswith("1 entries of `data` are left out")
    assert names.endswith("(first: lift.hdf5: demo_01)")


def test_demonstrations_without_an_instruction_get_one_by_schema(tmp_path):
    file = write_demos(tmp_path / "lift.hdf5", [6])
    with h5py.File(file, "a") as opened:
        del opened["data"].attrs["problem_info"]
    dataset = open_files(file)
    assert "task" not in dataset.features
    schema = tmp_path / "lift.toml"
    schema.write_text(DEMOS.format(instruction='instruction = { text = "lift the cube" }'))
    run(FilesStage(dataset, tmp_path / "ep", ConvertConfig(schema=str(schema))), RunOptions())
    (episode,) = EpisodeStore(tmp_path / "ep")
    assert episode.instruction() == "lift the cube"


def test_files_that_state_no_task_leave_the_others_theirs(tmp_path):
    root = tmp_path / "demos"
    silent, one, _ = (write_demos(root / f"{name}.hdf5", [6]) for name in ("a", "b", "c"))
    with h5py.File(silent, "a") as opened:
        del opened["data"].attrs["problem_info"]
    dataset = open_files(root)
    assert dataset.notes == ("1 of 3 files state no task: it is empty in their episodes",)
    run(FilesStage(dataset, tmp_path / "ep", ConvertConfig()), RunOptions())
    instructions = [episode.instruction() for episode in EpisodeStore(tmp_path / "ep")]
    assert instructions == ["", "pick the bowl", "pick the bowl"]
    assert open_files(one).notes == ()


def test_a_draft_has_nothing_of_the_next_step(tmp_path):
    file = write_demos(tmp_path / "lift.hdf5", [6])
    with h5py.File(file, "a") as opened:
        opened.copy("data/demo_0/obs", "data/demo_0/next_obs")
    dataset = open_files(file)
    assert "next_obs/agentview_rgb" in dataset.features
    schema = FilesStage(dataset, tmp_path / "ep", ConvertConfig()).schema
    assert [camera.key for camera in schema.cameras] == ["obs/agentview_rgb"]
    assert schema.proprio_dims == ("ee_states_0", "ee_states_1", "ee_states_2")


def test_a_libero_problem_is_named_by_its_file():
    from depthtok.sources.demonstrations import _task

    name = "libero/bddl_files/KITCHEN_SCENE3_turn_on_the_stove.bddl"
    assert _task({"bddl_file_name": name}) == "turn on the stove"
    said = json.dumps({"language_instruction": "open the drawer"})
    assert _task({"bddl_file_name": name, "problem_info": said}) == "open the drawer"
    assert _task({"problem_info": np.bytes_(said.encode())}) == "open the drawer"
    assert _task({}) == ""
