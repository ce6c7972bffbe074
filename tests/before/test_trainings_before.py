"""A codebook and a run made before this version go on as they were begun: the same held-out
episodes, norms and figures; what they do not say stays unknown."""

import json
import shutil
from pathlib import Path

import pytest

from depthtok.stores.codebook import Codebook
from tests.commands.trainings import call, lines
from vla.named_configs import load
from vla.serving.policy import Policy
from vla.training import checkpoint
from vla.training.resume import as_begun

BEFORE = Path(__file__).parents[1] / "data" / "before"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run, resumed by the command that began it."""
    out = Path(shutil.copytree(BEFORE / "run", tmp_path_factory.mktemp("before") / "run"))
    call(
        "train-vla",
        "--episodes",
        BEFORE / "episodes",
        "--codes",
        BEFORE / "codes",
        "--codebook",
        BEFORE / "codebook",
        "--source-root",
        BEFORE / "rlds" / "1.0.0",
        "--preset",
        BEFORE / "micro.toml",
        "--batch",
        4,
        "--held-out",
        0.4,
        "--device",
        "cpu",
        "--log-every",
        1,
        "--validate-every",
        2,
        "--checkpoint-every",
        2,
        "--threads",
        1,
        "--steps",
        4,
        "--force",
        "--out",
        out,
    )
    return out


def test_the_run_goes_on_to_the_same_figures(run):
    assert lines(run) == lines(BEFORE / "run")
    assert [line["step"] for line in lines(run)] == [1, 2, 3, 4]


def test_the_resumed_run_keeps_its_rule_and_says_what_the_store_says(run):
    old, new = (checkpoint.read_state(checkpoint.find(path)) for path in (BEFORE / "run", run))
    assert (old.meanings, new.step) == ({}, 4)
    assert new.norms == old.norms
    assert new.meanings["before_set"].gripper == "open1_closed0"
    assert "reference of 7 action columns" in new.meanings["before_set"].unknown
    held = new.notes["held_out"]
    assert held == {"rule": "", "episodes": 2, "learnt_from": 4, "in_codebook": held["in_codebook"]}
    assert Policy.load(BEFORE / "run").meaning is None
    assert Policy.load(run).meaning == new.meanings["before_set"]


def test_the_finished_codebook_stays(tmp_path):
    out = Path(shutil.copytree(BEFORE / "codebook", tmp_path / "codebook"))
    weights = (out / "codebook.safetensors").read_bytes()
    printed = call(
        "train-vqvae",
        BEFORE / "depth",
        "--out",
        out,
        "--preset",
        BEFORE / "vqvae.toml",
        "--device",
        "cpu",
        "--threads",
        1,
    )
    assert "3 held-out episodes" in printed
    assert (out / "codebook.safetensors").read_bytes() == weights
    assert json.loads((out / "codebook.json").read_text())["fingerprint"] == (
        Codebook.load(BEFORE / "codebook").fingerprint
    )


def test_a_run_keeps_what_presets_did_not_state_then(run, capsys):
    """Hard targets, whatever `tiny` says today, however often it goes on; another value that a run
    was begun with is compared like any setting."""
    today = load(BEFORE / "micro.toml")
    assert today.model.depth.target_odds == 2
    assert checkpoint.read_config(checkpoint.find(run)).model.depth.target_odds == 0
    for begun in (BEFORE / "run", run):
        assert as_begun(begun, today).model.depth.target_odds == 0
        assert "begun with model.depth.target_odds = 0.0: it goes on so, not with 2.0" in (
            capsys.readouterr().err
        )
    stated = {"data.action_norm": "q99", "data.empty_instructions": "drop"}
    data = as_begun(run, today.updated(stated)).data
    assert (data.action_norm, data.empty_instructions) == ("bounds", "keep")
    assert as_begun(run.parent / "none", today) == today
