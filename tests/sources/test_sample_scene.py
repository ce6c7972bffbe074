"""The sample that ships, as `collect` made it: depth that fits its cameras, and what is told of it."""

from pathlib import Path

import numpy as np
import pytest

from depthtok import sample
from depthtok.sources.rlds import RldsDirectory
from depthtok.testing import back_project, support_plane

SAMPLE = Path(sample.__file__).parent / "libero_sample" / "1.0.0"


@pytest.fixture(scope="module")
def episodes():
    data = RldsDirectory.open(SAMPLE)
    return [raw for shard in data.splits["train"].shards for raw in data.records(shard)]


def test_the_table_is_a_plane(episodes):
    """Of all background within 3 cm of the table's height, 99 % lie on one plane to 2 mm."""
    for raw in episodes:
        depth = raw.values("steps/observation/depth")[::16, :, ::-1, 0] / 1000
        classes = raw.values("steps/observation/segmentation")[::16, :, ::-1, 0]
        k, pose = (
            raw.values(f"episode_metadata/camera_{name}").reshape(side, side)
            for name, side in (("intrinsics", 3), ("to_world", 4))
        )
        for metres, seen in zip(depth, classes, strict=True):
            background = back_project(metres, k, pose)[(seen == 0) & (metres > 0)]
            normal, distance = support_plane(background)
            table = np.abs(distance) < 0.03
            assert table.sum() > 0.2 * seen.size
            assert np.mean(np.abs(distance[table]) <= 0.002) >= 0.99
            assert abs(normal[2]) > 0.9999
            assert np.median(background[table, 2]) == pytest.approx(0.9, abs=0.003)


def test_two_tasks_from_drawn_placements(episodes):
    assert len({raw.text("steps/language_instruction")[0] for raw in episodes}) == 2
    assert {int(raw.values("episode_metadata/init_state_index")) for raw in episodes} == {-1}
    assert sum(file.stat().st_size for file in SAMPLE.iterdir()) < 10e6
