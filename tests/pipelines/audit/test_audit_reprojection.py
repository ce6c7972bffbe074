"""The temporal alignment error of depth whose errors are known, under poses that are known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from depthtok.data import DepthKind
from depthtok.errors import CorruptRecord
from depthtok.orientation import Orientation
from depthtok.sources.rlds import RldsDirectory
from depthtok.stores.episodes import EpisodeStore
from pipelines.audit.audit import audit
from pipelines.audit.height import Rays
from pipelines.audit.poses import Poses
from pipelines.audit.reprojection import carried, resized, temporal_alignment_error
from tests.commands.trainings import call
from tests.pipelines.audit.test_audit import pair, scene

METRES = DepthKind.METRES
SIDE = 48
SAMPLE = Path(__file__).parents[3] / "depthtok" / "sample" / "libero_sample"


def rays(orientation=Orientation.IDENTITY, side=SIDE):
    matrix = np.float32([[side, 0, side / 2], [0, side, side / 2], [0, 0, 1]])
    return Rays.of(matrix, (side, side), (side, side), orientation)


def moving(steps, along):
    """Poses of a camera that moves by `along` metres a step, in its own axes."""
    poses = np.repeat(np.eye(4)[None], steps, 0)
    poses[:, :3, 3] = np.arange(steps)[:, None] * np.asarray(along, float)
    return poses


def wall(steps, along, orientation=Orientation.IDENTITY, slope=0.0):
    """True depth of a wall z = 2 + slope x (world), seen by that camera."""
    view = rays(orientation)
    poses = moving(steps, along)
    x, z = poses[:, 0, 3], poses[:, 2, 3]
    # z_c + z0 = 2 + slope (u z_c + x0)
    depth = (2 + slope * x - z)[:, None, None] / (1 - slope * view.u)[None, None]
    return np.repeat(depth, SIDE, 1).astype(np.float32), poses, view


def of(seen, truth, poses, view):
    """The error without any alignment of scale: the estimate is metric, and fitted exactly."""
    one = replace(pair(seen, METRES, truth=truth), rays=view, poses=poses)
    fit = replace(audit(one).fit, scale=1.0, shift=0.0, low=1e-3, high=1e3)
    return temporal_alignment_error(one, fit)


@pytest.mark.parametrize("orientation", ["identity", "mirror", "flip", "rotate180"])
@pytest.mark.parametrize("along", [(0, 0, 0), (0, 0, 0.05), (0.04, 0, 0), (0.03, 0, 0.03)])
def test_true_depth_has_no_error_however_the_camera_moves(orientation, along):
    truth, poses, view = wall(5, along, Orientation(orientation), slope=0.3)
    assert of(truth, truth, poses, view) < 0.004  # less than a pixel's share of the slope


def test_depth_that_ignores_the_motion_is_off_by_the_motion():
    """Towards a wall at 2 m, 5 cm a step: depth that stays at 2 m is off by 5 cm of 2 m."""
    truth, poses, view = wall(6, (0, 0, 0.05))
    still = np.full_like(truth, 2.0)
    assert of(still, truth, poses, view) == pytest.approx(0.05 / 2, rel=1e-4)
    assert of(still, truth, moving(6, (0, 0, 0)), view) is None  # the truth itself disagrees


def test_flicker_is_measured_where_the_camera_stands():
    truth, poses, view = wall(6, (0, 0, 0))
    wave = np.where(np.arange(6) % 2, 1.02, 0.98).astype(np.float32)[:, None, None]
    expected = (0.04 / 0.98 + 0.04 / 1.02) / 2
    assert of(truth * wave, truth, poses, view) == pytest.approx(expected, rel=1e-4)


def test_what_moves_or_is_hidden_counts_nowhere():
    truth = scene(frames=6, side=SIDE)  # a box slides before a wall
    assert of(truth, truth, moving(6, (0, 0, 0)), rays()) == pytest.approx(0, abs=1e-6)
    wrong = truth.copy()
    wrong[3, 4:12] *= 1.5  # the rows of the box, of which only the wall beside it counts
    mixed = of(wrong, truth, moving(6, (0, 0, 0)), rays())
    assert 0.01 < mixed < 0.5


def test_without_poses_or_intrinsics_nothing_is_said():
    truth, poses, view = wall(3, (0, 0, 0))
    one = pair(truth, METRES, truth=truth)
    fit = audit(one).fit
    for known in ({"poses": poses}, {"rays": view}, {}):
        assert temporal_alignment_error(replace(one, **known), fit) is None


def test_points_are_carried_to_where_the_other_camera_sees_them():
    """A camera that goes 0.5 m to the right sees a point at 2 m a quarter of the focal length
    further left: 12 px of 48."""
    motion = np.linalg.inv(moving(2, (0.5, 0, 0))[1])
    seen = carried(np.full((SIDE, SIDE), 2.0, np.float32), motion, rays())
    assert (seen.columns[10, 40], seen.rows[10, 40]) == (28, 10)
    assert seen.depth[10, 40] == pytest.approx(2)
    assert not seen.inside[10, 11]
    assert seen.inside[10, 12]
    back = np.diag([-1.0, 1, -1, 1])  # turned around: behind the camera
    assert not carried(np.full((SIDE, SIDE), 2.0, np.float32), back, rays()).inside.any()


def test_rays_of_another_size_look_where_they_are_made_to():
    small = resized(rays(), (12, 24))
    matrix = np.float32([[SIDE, 0, SIDE / 2], [0, SIDE, SIDE / 2], [0, 0, 1]])
    scaled = Rays.of(matrix, (SIDE, SIDE), (12, 24), Orientation.IDENTITY)
    np.testing.assert_allclose(small.u, scaled.u, atol=1e-6)
    np.testing.assert_allclose(small.v, scaled.v, atol=1e-6)


def test_blocks_do_not_matter(monkeypatch):
    truth, poses, view = wall(9, (0.01, 0, 0.02), slope=0.2)
    seen = (truth * np.random.default_rng(0).uniform(0.9, 1.1, truth.shape)).astype(np.float32)
    whole = of(seen, truth, poses, view)
    monkeypatch.setattr("pipelines.audit.audit.BLOCK", 4)
    assert of(seen, truth, poses, view) == pytest.approx(whole, rel=1e-6)


def test_poses_come_from_the_data_set(tmp_path):
    """The shipped sample has those of the wrist at every step, and of the camera that stands."""
    call("convert", SAMPLE, "--out", tmp_path / "episodes")
    episodes = EpisodeStore(tmp_path / "episodes")
    poses = Poses(episodes)
    directory = RldsDirectory.open(SAMPLE)
    for shard in directory.splits["train"].shards:
        for raw in directory.records(shard):
            key = replace(episodes.episode(0).key, shard=shard.index, index=raw.index)
            wrist = raw.values("steps/observation/wrist_camera_to_world").reshape(-1, 4, 4)
            np.testing.assert_array_equal(poses.of(key, "wrist_image", len(wrist)), wrist)
            stands = poses.of(key, "image", len(wrist))
            world = raw.values("episode_metadata/camera_to_world").reshape(4, 4)
            assert stands.shape == wrist.shape
            np.testing.assert_array_equal(stands[-1], world)
            assert poses.of(key, "no such camera", 3) is None
            with pytest.raises(CorruptRecord, match="poses"):
                poses.of(key, "wrist_image", len(wrist) + 1)
    gone = EpisodeStore(tmp_path / "episodes", source_root=tmp_path / "nowhere")
    assert Poses(gone).of(key, "image", 3) is None
