"""From a collected episode to a success rate in LIBERO, with the commands alone."""

import json

import pytest

from tests.commands.trainings import call

SMALLER = ["model.vision.image_size=16", "model.vision.patch=4", "model.chunk=5"]


@pytest.fixture(scope="module")
def policy(demos, tmp_path_factory):
    """Two updates on the collected episode: enough to act."""
    out = tmp_path_factory.mktemp("policy")
    call("convert", demos, "--out", out / "episodes", "--workers", 0)
    train = ["train-vla", "--episodes", out / "episodes", "--preset", "tiny+no-depth-expert"]
    train += [word for change in SMALLER for word in ("--set", change)]
    call(
        *train,
        "--steps",
        2,
        "--batch",
        2,
        "--held-out",
        0,
        "--threads",
        1,
        "--device",
        "cpu",
        "--out",
        out / "run",
    )
    return out / "run"


def test_collect_train_eval(policy, tmp_path):
    command = [
        "eval",
        policy,
        "--suite",
        "libero_object",
        "--tasks",
        0,
        "--trials",
        2,
        "--size",
        32,
        "--max-steps",
        6,
        "--device",
        "cpu",
        "--out",
        tmp_path,
        "--json",
    ]
    call(*command, "--limit", 1)
    first = tmp_path / "trials/task-00-trial-000.json"
    written = first.stat().st_mtime_ns
    figures = json.loads(call(*command))
    assert (figures["trials"], figures["complete"]) == (2, True)
    assert first.stat().st_mtime_ns == written
    assert json.loads(first.read_text())["plans"] == 2
    card = json.loads((tmp_path / "eval.json").read_text())
    assert card["versions"]["mujoco"].startswith("3.3.")
    assert card["software"]["device"] == "cpu"
    assert "Mesa" in card["software"]["gl"]
    assert card["software"]["blas"].startswith("openblas ")
    assert len(card["weights"]["model.safetensors"]) == 64
    assert (tmp_path / "report.html").is_file()
    assert [path.name for path in (tmp_path / "videos").iterdir()] == [
        "task-00-trial-000-failure.webp"
    ]
