"""Real robot data from inspect to a training, by the command line; what is odd in them is seen.

Cut small: see tests/data/real/README.md. Depth is of the tiny network, codes
are of the demo codebook.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from depthtok.stores.codes import CodeStore
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from tests.commands.trainings import DEMO, MICRO, call, lines

REAL = Path(__file__).parents[1] / "data" / "real"
SETS = {
    "bridge": REAL / "bridge_dataset" / "1.0.0",
    "g1": REAL / "g1_pick_bottle" / "1.0.0",
    "utokyo": REAL / "utokyo_xarm_bimanual_converted_externally_to_rlds" / "0.1.0",
    "rgbd": REAL / "real_rgbd" / "1.0.0",
}
EDITS = {  # what a person who knows the robot states in the draft
    "g1": [
        ('reference = "unknown"', 'reference = "absolute"'),
        ('orientation = "unknown"', 'orientation = "identity"'),
        ('fps = "unknown"', "fps = 10"),
    ],
    "utokyo": [('orientation = "unknown"', 'orientation = "identity"')],
    "rgbd": [('orientation = "unknown"', 'orientation = "identity"')],
}


@pytest.fixture(scope="module", params=SETS)
def walked(request, tmp_path_factory):
    """All stages over one set, and what each said."""
    name, out = request.param, tmp_path_factory.mktemp(request.param)
    source, said = SETS[name], {}
    said["inspect"] = call("inspect", source)
    schema = ()
    if name in EDITS:
        draft = call("inspect", source, "--draft")
        for before, after in EDITS[name]:
            assert before in draft
            draft = draft.replace(before, after, 1)
        (out / "mine.toml").write_text(draft)
        schema = ("--schema", out / "mine.toml")
    said["convert"] = call("convert", source, *schema, "--out", out / "episodes")
    said["annotate"] = call(
        "annotate",
        out / "episodes",
        "--estimator",
        "tiny",
        "--size",
        256,
        "--device",
        "cpu",
        "--out",
        out / "depth",
    )
    said["tokenize"] = call(
        "tokenize", out / "depth", "--codebook", DEMO, "--device", "cpu", "--out", out / "codes"
    )
    (out / "micro.toml").write_text(MICRO)
    names = list(EpisodeStore(out / "episodes").cameras)
    cameras = [word for name in names for word in ("--camera", name)]
    said["train-vla"] = call(
        "train-vla",
        "--episodes",
        out / "episodes",
        "--codes",
        out / "codes",
        "--out",
        out / "run",
        "--preset",
        out / "micro.toml",
        *cameras,
        "--steps",
        2,
        "--batch",
        4,
        "--set",
        f"model.depth.cameras={len(names)}",
        "--device",
        "cpu",
        "--threads",
        1,
        "--log-every",
        1,
    )
    return SimpleNamespace(
        name=name,
        out=out,
        said=said,
        episodes=EpisodeStore(out / "episodes"),
        depth=DepthStore(out / "depth"),
        codes=CodeStore(out / "codes"),
    )


def test_every_episode_has_depth_and_codes_and_trains(walked):
    assert len(walked.episodes) == {"bridge": 6, "g1": 2, "utokyo": 1, "rgbd": 3}[walked.name]
    assert all(episode.key in walked.codes for episode in walked.episodes)
    assert not walked.codes.failures()
    log = lines(walked.out / "run")
    assert [line["step"] for line in log] == [1, 2]
    assert all(np.isfinite(line["loss"]) for line in log)


def test_the_camera_that_shows_nothing_is_masked_and_the_real_ones_stay(walked):
    if walked.name != "bridge":
        assert walked.codes.absent_counts() == {}
        return
    for store in (walked.episodes, walked.depth, walked.codes):
        assert store.absent_counts() == {"image_3": 6}
    key = walked.episodes.episode(0).key
    assert walked.codes.find_grid(key, "image_3") is None
    assert walked.codes.grid_of(key, "image_2").codes.shape == (9, 16, 16)
    assert {clip.camera for clip in walked.depth.clips()} == {"image_0", "image_1", "image_2"}
    assert "image_3" in walked.said["convert"]


def test_no_ops_are_dropped_where_the_schema_says_so(walked):
    steps = {"bridge": [9] * 6, "g1": [16, 16], "utokyo": [8], "rgbd": [1, 1, 2]}
    assert walked.episodes.lengths.tolist() == steps[walked.name]


def test_no_joint_is_called_a_gripper_without_evidence(walked):
    meaning = walked.episodes.meaning
    if walked.name == "bridge":
        assert (meaning.gripper, meaning.gripper_columns) == ("open1_closed0", (6,))
    else:
        assert (meaning.gripper, meaning.gripper_columns) == ("unknown", ())


def test_no_state_is_dropped_silently(walked):
    names = [column.name for column in walked.episodes.meaning.proprio]
    if walked.name == "utokyo":
        assert {name[:6] for name in names} == {"pose_l", "pose_r"}
    if walked.name == "g1":
        assert len(names) == 26


def test_what_nobody_said_is_unknown(walked):
    shown = call("inspect", walked.out / "episodes")
    if walked.name == "utokyo":
        assert "rate, reference of 14 action columns" in shown
        assert walked.episodes.fps is None
    if walked.name == "g1":
        assert walked.episodes.fps == 10
        assert {column.reference for column in walked.episodes.meaning.action} == {"absolute"}
        assert "unit of 26 action columns" in shown


def test_empty_instructions_are_counted(walked):
    assert ("3 of 3 episodes (100 %) have no instruction" in walked.said["convert"]) == (
        walked.name == "rgbd"
    )


def test_measured_depth_in_the_wrong_unit_is_found(tmp_path):
    """0.1 mm read as millimetres: two of the three sensors of real_rgbd publish 0.1 mm."""
    draft = call("inspect", SETS["rgbd"], "--draft").replace(
        'orientation = "unknown"', 'orientation = "identity"'
    )
    for name, key in (("truth", "depth"), ("native", "depth_native")):
        text = draft.replace('"steps/observation/depth"', f'"steps/observation/{key}"')
        (tmp_path / f"{name}.toml").write_text(text)
        call(
            "convert",
            SETS["rgbd"],
            "--schema",
            tmp_path / f"{name}.toml",
            "--out",
            tmp_path / f"{name}-episodes",
        )
        call(
            "annotate",
            tmp_path / f"{name}-episodes",
            "--estimator",
            "dataset",
            "--size",
            128,
            "--out",
            tmp_path / name,
        )
    said = call(
        "audit-depth",
        "--estimated",
        tmp_path / "native",
        "--truth",
        tmp_path / "truth",
        "--out",
        tmp_path / "audit",
        code=1,
    )
    assert "2 of 3 clips" in said
    assert "10" in said
    same = call(
        "audit-depth",
        "--estimated",
        tmp_path / "truth",
        "--truth",
        tmp_path / "truth",
        "--out",
        tmp_path / "same",
    )
    assert "WRONG" not in same
    stores = "--estimated", tmp_path / "truth", "--truth", tmp_path / "native"
    any_unit = call("audit-depth", *stores, "--any-unit", "--out", tmp_path / "any")
    assert "WRONG" not in any_unit
    assert "dataset: AbsRel 0.000, delta1 1.000" in any_unit
