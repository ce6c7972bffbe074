"""LeRobot data sets: what their metadata say, episode by episode, and what is refused."""

import hashlib
import json
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from depthtok.errors import CorruptRecord, SchemaError, SourceError
from depthtok.sources.draft import draft
from depthtok.sources.files import FileDataset, FileEpisode
from depthtok.sources.instruction import Instruction
from depthtok.sources.lerobot.dataset import LeRobotDirectory
from depthtok.sources.lerobot.info import read_info
from depthtok.sources.lerobot.listing import read_listing
from depthtok.sources.sample import sample_files
from depthtok.sources.schema import Schema
from tests.lerobot_sets import RATE, picture, write_v2, write_v3

REAL = Path(__file__).parents[2] / "data/lerobot_v3"
TOP = "observation.images.top"


def change_info(root: Path, **values: object) -> None:
    file = root / "meta/info.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def episodes(dataset: LeRobotDirectory, keys=(TOP,)) -> dict[int, object]:
    groups = [g for split in dataset.splits for g in dataset.groups(split, keys)]
    return {index: raw for group in groups for index, raw in dataset.episodes(group, keys)}


@pytest.mark.parametrize(
    ("write", "options"), [(write_v2, {}), (write_v3, {}), (write_v3, {"kind": "image"})]
)
def test_episodes_have_their_rows_tasks_and_frames(tmp_path, write, options):
    dataset = LeRobotDirectory.open(write(tmp_path / "set", [5, 9, 4], **options))
    assert isinstance(dataset, FileDataset)
    assert (dataset.name, dataset.fps, dataset.splits["train"]) == (
        "set",
        RATE,
        3 - (write is write_v3),
    )
    dataset = pickle.loads(pickle.dumps(dataset))
    raws = episodes(dataset)
    assert list(raws) == [0, 1, 2]
    for index, raw in raws.items():
        assert isinstance(raw, FileEpisode)
        steps = [5, 9, 4][index]
        assert len(raw) == steps
        motion = np.stack([np.arange(steps) * 0.1 + index, np.arange(steps) * 0.2], axis=1)
        np.testing.assert_allclose(raw.values("action"), motion, atol=1e-6)
        assert raw.values("frame_index").shape == (steps, 1)
        assert raw.texts("task") == [(f"do {index % 2}",)] * steps
        assert raw.rows(TOP).shape == (steps, 4)
        with pytest.raises(SourceError, match="no feature 'actoin'"):
            raw.values("actoin")


def test_v3_data_files_are_groups_and_share_a_video(tmp_path):
    dataset = LeRobotDirectory.open(write_v3(tmp_path / "set", [5, 9, 4]))
    first, second = dataset.groups("train", [TOP])
    video = f"videos/{TOP}/chunk-000/file-000.mp4"
    assert first.files == ("data/chunk-000/file-000.parquet", video)
    assert second.files == ("data/chunk-000/file-001.parquet", video)
    assert (first.episodes, second.episodes) == ((0, 1), (2,))
    assert dataset.groups("train", [])[0].files == ("data/chunk-000/file-000.parquet",)
    stamps = {index: raw.rows(TOP)[:, 0] for index, raw in episodes(dataset).items()}
    assert stamps[1][0] > stamps[0][-1]  # time goes on from episode to episode
    assert stamps[2][0] > stamps[1][-1]


def test_splits_are_ranges_of_episodes(tmp_path):
    root = write_v3(tmp_path / "set", [5, 9, 4])
    change_info(root, splits={"train": "0:1", "test": "1:3"})
    dataset = LeRobotDirectory.open(root)
    assert dataset.splits == {"train": 1, "test": 2}
    groups = [*dataset.groups("train", []), *dataset.groups("test", [])]
    assert [group.episodes for group in groups] == [(0,), (1,), (2,)]
    assert [index for g in groups for index, _ in dataset.episodes(g, [])] == [0, 1, 2]


@pytest.mark.parametrize(
    ("values", "problem", "remedy"),
    [
        (
            {"codebase_version": "v1.6"},
            "of version v1.6; v2.1 and v3.0 are read",
            "convert_dataset",
        ),
        ({"codebase_version": "v4.0"}, "of version v4.0", "update depthtok"),
        ({"storage_format": "lance"}, "keeps its data as 'lance'", "write it as parquet"),
        ({"features": ["action"]}, "is not as LeRobot writes it", "download"),
        ({"data_path": "../{chunk_index}"}, "does not name a file", "inside"),
        ({"data_path": "{chunky}"}, "is no path template", "correct"),
        ({"fps": -5}, "is not as LeRobot writes it", "download"),
        ({"chunks_size": 0}, "is not as LeRobot writes it", "download"),
        ({"splits": {"train": "-1:2"}}, "the split 'train' has episodes -1:2", "download"),
    ],
)
def test_what_is_not_read_is_refused_in_words(tmp_path, values, problem, remedy):
    root = write_v3(tmp_path / "set", [3])
    change_info(root, **values)
    with pytest.raises(SourceError, match=problem) as caught:
        LeRobotDirectory.open(root).groups("train", [])
    assert remedy in caught.value.remedy


def test_a_template_that_gives_two_cameras_one_file_is_refused(tmp_path):
    root = write_v3(tmp_path / "set", [3])
    features = json.loads((root / "meta/info.json").read_text())["features"]
    video = {"dtype": "video", "shape": [8, 8, 3], "names": ["height", "width", "channels"]}
    both = {**features, "observation.images.a": video, "observation.images.b": video}
    change_info(root, features=both, video_path="videos/file-{file_index:03d}.mp4")
    with pytest.raises(SourceError, match="gives all cameras one file"):
        LeRobotDirectory.open(root)


def test_an_episode_that_does_not_fit_its_metadata_fails_alone(tmp_path):
    import pyarrow.parquet as pq

    root = write_v3(tmp_path / "set", [5, 9, 4], a_file=3)
    file = root / "data/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    pq.write_table(table.take([k for k in range(18) if k != 7]), file)  # a row of episode 1
    raws = episodes(LeRobotDirectory.open(root))
    assert [len(raws[0]), len(raws[2])] == [5, 4]
    assert isinstance(raws[1], CorruptRecord)
    assert "episode 1 has 8 rows, the metadata say 9" in raws[1].problem
    pq.write_table(table.take([*range(5), *range(14, 18)]), file)
    assert "has no rows of episode 1" in episodes(LeRobotDirectory.open(root))[1].problem
    file.write_bytes(file.read_bytes()[:-9])
    raws = episodes(LeRobotDirectory.open(root))
    assert all("cannot be read" in error.problem for error in raws.values())


@pytest.mark.parametrize(("late", "failed"), [(2, [1]), (5, [1]), (-3, [0]), (0, [])])
def test_an_episode_whose_frames_run_into_the_next_fails(tmp_path, late, failed):
    """Its from_timestamp is wrong by some frames: the last ones would be another episode's."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    root = write_v3(tmp_path / "set", [5, 9, 6], a_file=3)
    file, key = root / "meta/episodes/chunk-000/file-000.parquet", f"videos/{TOP}/from_timestamp"
    table = pq.read_table(file)
    begins = table[key].to_pylist()
    begins[1] += late / RATE
    pq.write_table(table.set_column(table.column_names.index(key), key, pa.array(begins)), file)
    raws = episodes(LeRobotDirectory.open(root), [TOP])
    assert [index for index, raw in raws.items() if isinstance(raw, SourceError)] == failed
    for index in failed:
        assert "run into those of the next episode" in raws[index].problem
        assert "from_timestamp" in raws[index].remedy


def test_a_snapshot_of_the_hub_is_known_by_its_repository(tmp_path):
    root = tmp_path / "datasets--lab--pick" / "snapshots" / "0a1b2c"
    dataset = LeRobotDirectory.open(write_v2(root, [3]))
    assert (dataset.name, dict(dataset.place)) == ("lab--pick", {"revision": "0a1b2c"})


def test_a_draft_uses_names_and_rate_of_the_data_set(tmp_path):
    dataset = LeRobotDirectory.open(write_v3(tmp_path / "set", [5]))
    text = draft(dataset.features, dataset.name, sample_files(dataset), dataset.fps)
    (tmp_path / "set.toml").write_text(text)
    schema = Schema.load(tmp_path / "set.toml").fitted(dataset.features)
    assert (schema.fps, schema.instruction.paths) == (RATE, ("task",))
    assert schema.action_dims == schema.proprio_dims == ("shoulder", "elbow")
    assert [(c.name, c.key) for c in schema.cameras] == [("top", TOP)]
    assert schema.unknown  # what actions mean is nowhere in the format


def test_depth_videos_are_depth_in_metres():
    dataset = LeRobotDirectory.open(REAL)
    text = draft(dataset.features, "lerobot_v3", None, dataset.fps)
    assert 'depth_key = "observation.depth.image"\ndepth_unit = "m"' in text
    assert text.count("[[camera]]") == 1
    assert dataset.metric == {"observation.depth.image"}
    kind = dataset.frames_by("observation.depth.image")
    codes = {"depth_min": 0.01, "depth_max": 10.0, "shift": 3.5, "use_log": True}
    assert kind.settings == {"depth": codes}
    with pytest.raises(SourceError, match="neither a video nor pictures"):
        dataset.frames_by("action")
    schema = Schema.load(REAL / "schema.toml")
    with pytest.raises(SchemaError, match=r"no feature 'observation\.images\.image'"):
        schema.fitted({k: f for k, f in dataset.features.items() if "images" not in k})


def test_every_column_is_that_of_lerobots_own_reader():
    reader = json.loads((REAL / "reader.json").read_text())
    raws = episodes(LeRobotDirectory.open(REAL), ["observation.images.image"])
    for name, column in (("action", "action"), ("state", "observation.state")):
        values = np.concatenate([raw.values(column) for raw in raws.values()])
        np.testing.assert_array_equal(values, np.array(reader[name], np.float32))
    texts = [text for raw in raws.values() for (text,) in raw.texts("task")]
    assert texts == reader["task"]
    assert [i for i, raw in raws.items() for _ in range(len(raw))] == reader["episode"]
    assert hashlib.sha256(picture(0, 0).tobytes()).hexdigest() not in reader["rgb"]


def test_what_the_metadata_do_not_agree_on_is_said(tmp_path):
    root = write_v3(tmp_path / "set", [5, 9, 4])
    assert LeRobotDirectory.open(root).notes == ()
    change_info(root, total_episodes=100, total_frames=700, splits={"train": "0:100"})
    (note,) = LeRobotDirectory.open(root).notes
    assert note.startswith("meta/info.json says 100 episodes, the metadata list 3")
    change_info(root, total_episodes=3, total_frames=19, splits={"train": "0:2"})
    frames, split = LeRobotDirectory.open(root).notes
    assert frames == "meta/info.json says 19 frames, the metadata list 18"
    assert split == "1 of 3 episodes are in no split: left out"
    change_info(root, total_frames=18, splits={"train": "0:3", "test": "1:3"})
    assert "splits overlap" in LeRobotDirectory.open(root).notes[0]


def test_rows_of_an_episode_that_nothing_lists_are_not_dropped_in_silence(tmp_path):
    import pyarrow.parquet as pq

    root = write_v3(tmp_path / "set", [5, 9, 4], a_file=3)
    listing = root / "meta/episodes/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(listing).slice(0, 2), listing)
    raws = episodes(LeRobotDirectory.open(root))
    assert [len(raws[0]), len(raws[1])] == [5, 9]
    assert "has rows of episode 2, which the metadata do not list" in raws[2].problem
    change_info(root, splits={"train": "0:1"})  # an episode of another split is none of these
    assert sorted(episodes(LeRobotDirectory.open(root))) == [0, 2]


def rewrite(file: Path, column: str, values: list, kind) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(file)
    number = table.schema.get_field_index(column)
    pq.write_table(table.set_column(number, column, pa.array(values, kind)), file)


def test_a_list_of_many_episodes_stays_small(tmp_path):
    root, count = write_v2(tmp_path / "set", [3]), 20_000
    row = '{"episode_index": %d, "tasks": ["put the red cup on the blue plate"], "length": 120}\n'
    (root / "meta/episodes.jsonl").write_text("".join(row % k for k in range(count)))
    info = read_info(root)
    tracemalloc.start()
    listing = read_listing(root, info)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (len(listing.index), set(listing.length.tolist())) == (count, {120})
    assert peak / count < 300  # bytes: the file is 90 of them
    (root / "meta/episodes.jsonl").write_text('{"episode_index": 0, "length": 1e30}\n')
    with pytest.raises(SourceError, match="is not as LeRobot writes it"):
        read_listing(root, info)


@pytest.mark.parametrize("column", ["length", "data/file_index", f"videos/{TOP}/from_timestamp"])
def test_a_listing_that_lacks_a_number_is_refused_by_its_name(tmp_path, column):
    import pyarrow.parquet as pq

    root = write_v3(tmp_path / "set", [5, 9])
    file = root / "meta/episodes/chunk-000/file-000.parquet"
    listing = pq.read_table(file)
    for values in ([5, None], ["5", "9"], [None, None], [5.0, float("nan")]):
        rewrite(file, column, values, None)
        with pytest.raises(SourceError) as caught:
            LeRobotDirectory.open(root)
        assert f"{file} has an episode without a number in '{column}'" in caught.value.problem
    pq.write_table(listing.drop_columns([column]), file)
    with pytest.raises(SourceError, match=f"{file} has no column '{column}'"):
        LeRobotDirectory.open(root)


def test_values_that_would_be_those_of_other_steps_fail_their_episode(tmp_path):
    """Flat, as many as there should be, but not two in each step."""
    import pyarrow as pa

    root = write_v3(tmp_path / "set", [5, 9, 4])
    action = [[1.0, 2.0, 3.0], [4.0], *([[5.0, 6.0]] * 12)]
    file = root / "data/chunk-000/file-000.parquet"
    rewrite(file, "action", action, pa.list_(pa.float32()))
    raws = episodes(LeRobotDirectory.open(root))
    with pytest.raises(CorruptRecord, match="action has 0 values in 5 steps"):
        raws[0].values("action")
    np.testing.assert_array_equal(raws[1].values("action"), np.tile([5.0, 6.0], (9, 1)))


def test_a_time_that_is_no_number_means_no_frame(tmp_path):
    import pyarrow as pa

    root = write_v3(tmp_path / "set", [5, 9, 4])
    file = root / "data/chunk-000/file-000.parquet"
    times = [float("nan"), *np.arange(1, 5) / RATE, *np.arange(9) / RATE]
    rewrite(file, "timestamp", times, pa.float32())
    raws = episodes(LeRobotDirectory.open(root))
    assert "step 0 has the time nan s" in raws[0].problem
    assert len(raws[1]) == 9


@pytest.mark.parametrize(
    ("kind", "column"), [("image", TOP), ("video", "timestamp"), ("video", "task_index")]
)
def test_a_file_without_a_column_fails_its_own_episodes(tmp_path, kind, column):
    import pyarrow.parquet as pq

    root = write_v3(tmp_path / "set", [5, 9, 4], kind)
    file = root / "data/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(file).drop_columns([column]), file)
    raws = episodes(LeRobotDirectory.open(root))
    for index in (0, 1):
        assert f"episode {index} has no column '{column}' in its file" in raws[index].problem
    assert len(raws[2]) == 4


@pytest.mark.parametrize(
    ("kind", "column", "values", "problem"),
    [
        ("image", TOP, [b"png"] * 14, f"{TOP}, step 0: there is no picture in the parquet"),
        ("image", TOP, [{"path": "0.png"}] * 14, "there is no picture in the parquet"),
        ("image", TOP, [{"bytes": 3}] * 14, "there is no picture in the parquet"),
        ("video", "episode_index", [*[0] * 5, *[None] * 9], "an episode_index is no integer"),
        ("video", "episode_index", [[0]] * 14, "an episode_index is no integer"),
        ("video", "timestamp", ["0.1"] * 14, "not one number a row in the column 'timestamp'"),
        ("video", "task_index", ["0"] * 14, "not one number a row in the column 'task_index'"),
        ("video", "task_index", [{"a": 0}] * 14, "not one number a row in the column"),
    ],
)
def test_a_column_of_other_things_fails_the_episodes_of_its_file(
    tmp_path, kind, column, values, problem
):
    root = write_v3(tmp_path / "set", [5, 9, 4], kind)
    rewrite(root / "data/chunk-000/file-000.parquet", column, values, None)
    raws = episodes(LeRobotDirectory.open(root))
    for index in (0, 1):
        assert isinstance(raws[index], CorruptRecord)
        assert problem in raws[index].problem
    assert len(raws[2]) == 4


@pytest.mark.parametrize("values", [["a"] * 14, [{"a": 1}] * 14, [["a", "b"]] * 14])
def test_a_vector_of_other_things_fails_where_it_is_used(tmp_path, values):
    root = write_v3(tmp_path / "set", [5, 9, 4])
    rewrite(root / "data/chunk-000/file-000.parquet", "action", values, None)
    raws = episodes(LeRobotDirectory.open(root))
    with pytest.raises(CorruptRecord, match="action has 0 values in 5 steps"):
        raws[0].values("action")
    assert raws[0].values("observation.state").shape == (5, 2)


@pytest.mark.parametrize("shape", [[], [48, 64]])
def test_a_picture_without_three_sides_is_no_camera(tmp_path, shape):
    root = write_v3(tmp_path / "set", [3])
    features = json.loads((root / "meta/info.json").read_text())["features"]
    features["flat"] = {"dtype": "image", "shape": shape, "names": None}
    change_info(root, features=features)
    dataset = LeRobotDirectory.open(root)
    assert draft(dataset.features, dataset.name).count("[[camera]]") == 1


def add_words(root: Path, dtype: str, shape: list[int], values: list[list]) -> None:
    """A column `words` in the only data file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    features = json.loads((root / "meta/info.json").read_text())["features"]
    features["words"] = {"dtype": dtype, "shape": shape, "names": None}
    change_info(root, features=features)
    (file,) = root.glob("data/*/*.parquet")
    pq.write_table(pq.read_table(file).append_column("words", pa.array(values)), file)


def test_character_codes_are_those_of_their_step(tmp_path):
    root = write_v3(tmp_path / "set", [3])
    words = ["open", "open", "close"]
    add_words(root, "int64", [8], [list(word.encode().ljust(8, b"\0")) for word in words])
    raw = episodes(LeRobotDirectory.open(root))[0]
    instruction = Instruction(("words",), ("characters",))
    instruction.check(raw.features, "here")
    assert instruction.texts(raw) == [("open",), ("open",), ("close",)]


def test_several_texts_of_a_step_are_several(tmp_path):
    root = write_v3(tmp_path / "set", [3])
    add_words(root, "string", [2], [["lift", "raise"], ["lift", None], ["put", "lay"]])
    raw = episodes(LeRobotDirectory.open(root))[0]
    assert raw.texts("words") == [("lift", "raise"), ("lift", ""), ("put", "lay")]
    assert Instruction(("words",)).texts(raw) == [("lift",), ("lift",), ("put",)]


@pytest.mark.parametrize("write", [write_v2, write_v3])
def test_two_texts_of_one_task_are_refused(write, tmp_path):
    from tests.lerobot_sets import write_table

    root = write(tmp_path / "set", [3])
    if write is write_v3:
        write_table(root / "meta/tasks.parquet", {"task_index": [0, 0], "task": ["a", "b"]})
    else:
        rows = [{"task_index": 0, "task": text} for text in ("a", "b")]
        (root / "meta/tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(SourceError, match="task 0 is both 'a' and 'b'"):
        LeRobotDirectory.open(root)


@pytest.mark.parametrize("name", ["data/chunk-000/file-000.parquet", "meta/tasks.parquet", "video"])
def test_a_clone_without_git_lfs_is_known(name, tmp_path):
    root = write_v3(tmp_path / "set", [3])
    file = next(root.rglob("*.mp4")) if name == "video" else root / name
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    try:
        problem = episodes(LeRobotDirectory.open(root))[0].problem
    except SourceError as error:
        problem = error.problem
    assert problem.endswith("is a Git LFS pointer, not the file itself")
