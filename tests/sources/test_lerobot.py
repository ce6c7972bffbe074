"""LeRobot data sets: what their metadata say, episode by episode, and what is refused."""

import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from depthtok.errors import CorruptRecord, SchemaError, SourceError
from depthtok.sources.draft import draft
from depthtok.sources.files import FileDataset, FileEpisode
from depthtok.sources.lerobot.dataset import LeRobotDirectory
from depthtok.sources.sample import sample_files
from depthtok.sources.schema import Schema
from tests.lerobot_sets import RATE, picture, write_v2, write_v3

REAL = Path(__file__).parents[1] / "data/lerobot_v3"
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
    ],
)
def test_what_is_not_read_is_refused_in_words(tmp_path, values, problem, remedy):
    root = write_v3(tmp_path / "set", [3])
    change_info(root, **values)
    with pytest.raises(SourceError, match=problem) as caught:
        LeRobotDirectory.open(root).groups("train", [])
    assert remedy in caught.value.remedy


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
