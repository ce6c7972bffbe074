"""The sample that ships, made by `collect`: its depth fits its cameras."""

from pathlib import Path

import numpy as np
import pytest

from depthtok import sample
from depthtok.sources.rlds import RldsDirectory
from depthtok.testing import back_project, make_rlds, support_plane
from tools import cut_rlds as cut

TABLE_M = (0.48, 0.58)  # half its extent about the origin, less 2 cm
SAMPLE = Path(sample.__file__).parent / "libero_sample" / "1.0.0"


@pytest.fixture(scope="module")
def episodes():
    data = RldsDirectory.open(SAMPLE)
    return [raw for shard in data.splits["train"].shards for raw in data.records(shard)]


def test_the_table_is_a_plane(episodes):
    """99 % of what is seen of it, over its own extent, lie on one plane to 2 mm. Pixels beside
    something else are left out: there a pixel's depth and its class are of different samples."""
    for raw in episodes:
        depth = raw.values("steps/observation/depth")[::16, :, ::-1, 0] / 1000
        classes = raw.values("steps/observation/segmentation")[::16, :, ::-1, 0]
        k, pose = (
            raw.values(f"episode_metadata/camera_{name}").reshape(side, side)
            for name, side in (("intrinsics", 3), ("to_world", 4))
        )
        for metres, labels in zip(depth, classes, strict=True):
            points = back_project(metres, k, pose)[away_from_all(labels)]
            table = points[(np.abs(points) < [*TABLE_M, np.inf]).all(axis=1) & (points[:, 2] > 0.5)]
            normal, distance = support_plane(table)
            assert len(table) > 0.3 * labels.size
            assert np.mean(np.abs(distance) <= 0.002) >= 0.99
            assert abs(normal[2]) > 0.9999
            assert np.median(table[:, 2]) == pytest.approx(0.9, abs=0.003)


def test_two_tasks_from_drawn_placements(episodes):
    assert len({raw.text("steps/language_instruction")[0] for raw in episodes}) == 2
    assert {int(raw.values("episode_metadata/init_state_index")) for raw in episodes} == {-1}
    assert sum(file.stat().st_size for file in SAMPLE.iterdir()) < 10e6


def away_from_all(classes):
    """Background whose neighbours are background too."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(classes, 1, mode="edge"), (3, 3))
    return (windows == 0).all(axis=(2, 3))


def test_episodes_are_cut_in_the_order_asked_for(tmp_path, monkeypatch):
    source = make_rlds(tmp_path / "whole", episodes=4, steps=5, shards=2)
    words = f"cut {source} --out {tmp_path / 'cut'} --name cut --episodes 3,0 --steps 2"
    monkeypatch.setattr("sys.argv", words.split())
    cut.main()
    (shard,) = RldsDirectory.open(tmp_path / "cut").splits["train"].shards
    shards = RldsDirectory.open(source).splits["train"].shards
    before = [
        raw for shard_before in shards for raw in RldsDirectory.open(source).records(shard_before)
    ]
    for raw, number in zip(
        RldsDirectory.open(tmp_path / "cut").records(shard), (3, 0), strict=True
    ):
        assert np.array_equal(raw.values("steps/action"), before[number].values("steps/action")[:2])
        assert raw.values("steps/is_last").tolist() == [False, True]
