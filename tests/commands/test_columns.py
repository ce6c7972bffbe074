"""What inspect and train-vla say of columns: their meaning, and how they are spread."""

import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from depthtok.cli.main import app
from depthtok.errors import ConfigError
from depthtok.sources.features import Feature
from depthtok.sources.write import RldsWriter
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.filling import drop_part
from tests.commands.trainings import MICRO, call, lines
from vla.serving.policy import Policy
from vla.training import checkpoint

OB = "steps/observation/"
SCHEMA = """datasets = ["{name}"]
status = "unseen"
fps = {fps}
instruction = "steps/language_instruction"
gripper = "{gripper}"
[[camera]]
name = "image"
key = "steps/observation/image"
orientation = "{orientation}"
[[action]]
from = "steps/action"
dims = {dims}
[[proprio]]
from = "steps/observation/state"
dims = ["q1", "q2"]
"""
FEATURES = [
    Feature(OB + "image", "image", "uint8", (16, 16, 3), "png"),
    Feature(OB + "state", "tensor", "float32", (2,), "none"),
    Feature("steps/action", "tensor", "float32", (3,), "none"),
    Feature("steps/language_instruction", "text", "str"),
]
OPEN = np.array([1, 1, 1, 0, 0, 0, 1, 1], np.float32)  # 1: open


def episode(number, *, gripper, spike=False):
    rng = np.random.default_rng(number)
    state = rng.normal(size=(8, 2)).astype(np.float32)
    if spike:
        state[5, 1] = 4000
    return {
        OB + "image": list(rng.integers(0, 255, (8, 16, 16, 3), np.uint8)),
        OB + "state": state,
        "steps/action": np.column_stack([rng.uniform(-1, 1, (8, 2)), gripper]).astype("f4"),
        "steps/language_instruction": ["push it"] * 8,
    }


def store(
    root,
    name,
    *,
    dims='["x", "y", "gripper"]',
    gripper="open1_closed0",
    fps=10.0,
    values=OPEN,
    orientation="identity",
    spike=None,
    count=12,
):
    """A data set of its own, converted."""
    writer = RldsWriter(root / name / "1.0.0", name, "1.0.0", {f.path: f for f in FEATURES})
    episodes = (episode(n, gripper=values, spike=n == spike) for n in range(count))
    writer.write("train", episodes, 12)
    writer.finish()
    schema = root / f"{name}.toml"
    schema.write_text(
        SCHEMA.format(name=name, dims=dims, gripper=gripper, fps=fps, orientation=orientation)
    )
    out = root / f"{name}-episodes"
    call("convert", root / name / "1.0.0", "--schema", schema, "--out", out)
    return out


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    out = tmp_path_factory.mktemp("columns")
    (out / "micro.toml").write_text(MICRO)
    return out


@pytest.fixture(scope="module")
def a(root):
    return store(root, "a")


@pytest.fixture(scope="module")
def b(root):
    """The gripper's other convention, and a mirrored camera."""
    return store(root, "b", gripper="open-1_closed1", values=1 - 2 * OPEN, orientation="mirror")


@pytest.fixture(scope="module")
def joints(root):
    return store(root, "joints", dims='["j1", "y", "gripper"]', fps=5.0)


def train(root, out, *stores, more=()):
    """What the training says on stderr."""
    words = [word for path in stores for word in ("--episodes", path)]
    arguments = [
        "train-vla",
        *words,
        "--preset",
        f"{root / 'micro.toml'}",
        "--set",
        "model.depth.expert=false",
        "--steps",
        2,
        "--batch",
        4,
        "--held-out",
        0.2,
        "--validate-every",
        2,
        "--log-every",
        1,
        "--threads",
        1,
        "--device",
        "cpu",
        "--out",
        out,
        *more,
    ]
    result = CliRunner().invoke(app, [str(word) for word in arguments])
    if result.exception:
        raise result.exception
    return result.stderr


def test_a_mixture_of_opposite_grippers_is_refused_or_converted(root, a, b, tmp_path):
    with pytest.raises(ConfigError, match="gripper: a and b: open1_closed0, open-1_closed1"):
        train(root, tmp_path / "run", a, b)
    train(root, tmp_path / "run", a, b, more=["--set", "data.gripper=open1_closed0"])
    run = tmp_path / "run"
    state = checkpoint.read_state(checkpoint.find(run))
    assert {m.gripper for m in state.meanings.values()} == {"open1_closed0"}
    assert checkpoint.read_config(checkpoint.find(run)).data.gripper == "open1_closed0"
    assert Policy.load(run, dataset="b").meaning.gripper == "open1_closed0"
    printed = call("inspect", run)
    assert "gripper of b" in printed
    assert "open is 1, closed is 0 (open1_closed0); 10 Hz" in printed
    assert "4 of 24 episodes" in printed
    assert len(lines(run)) == 2


def test_a_mirrored_camera_is_said(root, a, b, tmp_path):
    said = train(root, tmp_path / "run", a, b, more=["--set", "data.gripper=open1_closed0"])
    assert "(identity: a; mirror: b)" in said


def test_a_mixture_of_joints_and_poses_is_refused_or_accepted(root, a, joints, tmp_path):
    with pytest.raises(ConfigError, match=r"fps: a and joints: 10 Hz, 5 Hz; action\.names"):
        train(root, tmp_path / "run", a, joints)
    accepted = ["--set", 'data.mix=["fps", "action.names"]']
    train(root, tmp_path / "run", a, joints, more=accepted)
    state = checkpoint.read_state(checkpoint.find(tmp_path / "run"))
    assert state.meanings["joints"].action[0].name == "j1"
    settings = json.loads((tmp_path / "run" / "config.json").read_text())
    assert settings["data"]["mix"] == ["fps", "action.names"]


def test_inspect_merges_only_what_means_the_same(a, b, joints):
    printed = call("inspect", a, joints)
    assert "action.names  a and joints: x, y, gripper; j1, y, gripper" in printed
    mixed = printed.partition("Mixture of 2")[2]
    assert [line.split()[0] for line in table(mixed, "Actions")] == ["y", "gripper"]
    assert [line.split()[0] for line in table(mixed, "States")] == ["q1", "q2"]
    mixed = call("inspect", a, b).partition("Mixture of 2")[2]
    assert "gripper  a and b: open1_closed0, open-1_closed1" in mixed
    assert [line.split()[0] for line in table(mixed, "Actions")] == ["x", "y"]
    same = call("inspect", a, a).partition("Mixture of 2")[2]
    assert "What differs" not in same
    assert "24" in same


def test_a_store_without_episodes_has_no_share(a, b, tmp_path):
    empty = shutil.copytree(b, tmp_path / "empty")
    drop_part(empty, EpisodeStore(empty).part_names[0])
    mixed = call("inspect", a, empty).partition("Mixture of 2")[2]
    assert table(mixed, "States") == table(call("inspect", a), "States")
    assert "Actions" not in call("inspect", empty, empty)


def table(text, title):
    """The rows of a table, without its head."""
    rows = text.partition(f"\n{title}\n")[2].split("\n\n")[0].splitlines()
    return [row for row in rows[1:] if row.strip()]


@pytest.fixture(scope="module")
def odd(root):
    """A spike in the ninth episode, and a gripper that never moves."""
    return store(root, "odd", values=np.ones(8, np.float32), spike=8, count=20)


def test_a_spike_is_named_with_its_episode(root, odd, tmp_path):
    location = "odd/1.0.0/train/00000-of-00002/00008, step 5"
    printed = call("inspect", odd)
    row = next(line for line in table(printed, "States") if line.strip().startswith("q2"))
    assert location in row
    assert "x q01..q99" in row
    assert table(printed, "Actions")[2].rstrip().endswith("constant")
    said = train(root, tmp_path / "run", odd)
    assert f"proprio column 'q2' has 4000 in {location}" in said
    assert "--set data.proprio_norm=q99" in said
    call("report", tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert "x q01..q99" in page
    assert "Normalisation of odd: states" in page
    said = train(root, tmp_path / "q99", odd, more=["--set", "data.proprio_norm=q99"])
    assert "proprio columns off at their quantiles" in said
    assert location not in said
