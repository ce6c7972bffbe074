"""The examples run: on the sample that ships, with trainings that are far too short to be good."""

import ast
import json
import math
import os
import re
import subprocess
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import typer
import yaml

import depthtok
from depthtok.cli.main import app
from tests.docs.pages import ROOT, Block

EXAMPLES = ROOT / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
SCRIPTS = sorted(EXAMPLES.glob("**/*.sbatch"))
SHORT = {
    "OUT": "runs",
    "CODEBOOK": {
        "steps": 4,
        "batch": 2,
        "camera": "image",
        "set": {
            "network.width": 16,
            "network.decoder_width": 16,
            "quantizer.warmup": 2,
            "training.frames": 16,
        },
    },
    "POLICY": {"preset": "tiny", "steps": 2, "batch": 2, "camera": "image", "validate_batches": 1},
}


def cells(notebook: Path, kind: str) -> list[dict]:
    return [c for c in json.loads(notebook.read_text())["cells"] if c["cell_type"] == kind]


def program(notebook: Path, parameters: dict) -> str:
    """The notebook's code, with other values for the names in its cell of parameters."""
    first, *rest = cells(notebook, "code")
    assert first["metadata"]["tags"] == ["parameters"]
    names = {n.id for n in ast.walk(ast.parse("".join(first["source"]))) if isinstance(n, ast.Name)}
    assert names == set(parameters)
    values = "".join(f"{name} = {value!r}\n" for name, value in parameters.items())
    return "\n\n".join([values, *("".join(cell["source"]) for cell in rest)])


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """A folder in which the notebook ran, and the names that it left."""
    folder = tmp_path_factory.mktemp("notebook")
    before, backend = Path.cwd(), matplotlib.get_backend()
    os.chdir(folder)
    matplotlib.use("agg")
    try:
        names: dict = {"__name__": "__main__"}
        exec(program(EXAMPLES / "whole_path.ipynb", SHORT), names)
    finally:
        os.chdir(before)
        matplotlib.use(backend)
    return folder, names


def test_the_notebook_runs(walked):
    folder, names = walked
    assert names["run"].step == 2
    assert math.isfinite(names["run"].last["flow"])
    assert names["policy"].act(names["observation"]).shape == (8, 7)
    # The shipped codebook saw scenes of LIBERO: it decodes these, too.
    assert np.abs(names["decoded"] - names["true"]).mean() < 0.05 * names["true"].mean()
    assert (folder / "runs/codebook/report.html").is_file()


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_have_no_outputs(notebook):
    for cell in cells(notebook, "code"):
        assert (cell["outputs"], cell["execution_count"]) == ([], None)


def test_codes_in_a_training_loop(walked):
    names: dict = {"__name__": "example"}
    exec((EXAMPLES / "own_training_loop.py").read_text(), names)
    runs = walked[0] / "runs"
    data = names["FramesWithCodes"](runs / "episodes", runs / "codes", "wrist_image")
    frame, codes = data[70]  # step 6 of the second episode
    episode = depthtok.open_store(runs / "episodes").episode(1)
    assert len(data) == 256
    np.testing.assert_array_equal(
        frame.permute(1, 2, 0), episode.frames("wrist_image").read(6, 7)[0]
    )
    stored = depthtok.open_store(runs / "codes").grid_of(episode.key, "wrist_image")
    np.testing.assert_array_equal(codes, stored.codes[6])
    assert names["FramesWithCodes"](runs / "episodes", runs / "codes", None).camera == "image"
    losses = names["train"](runs / "episodes", runs / "codes", steps=12)
    assert losses[0] == pytest.approx(math.log(256), abs=0.1)
    assert losses[-1] < losses[0] - 0.3


def test_a_simulator_from_outside():
    names: dict = {"__name__": "example"}
    exec((EXAMPLES / "own_simulator.py").read_text(), names)
    rollouts = names["evaluate"](names["TowardsRed"](), trials=3)
    assert [rollout.success for rollout in rollouts] == [True] * 3
    first = rollouts[0]
    assert len(first.frames) == len(first.depth_m) == first.plans + 1
    assert first.depth_m[0].min() == pytest.approx(0.6)  # the gripper, 20 cm above the table


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_shell(script):
    subprocess.run(["bash", "-n", script], check=True)


def written() -> list[Block]:
    """The commands in scripts and in the keys of YAML files that hold shell."""
    texts = {script.name: script.read_text() for script in SCRIPTS}
    task = yaml.safe_load((EXAMPLES / "skypilot/codes.yaml").read_text())
    texts |= {f"codes.yaml {key}": task[key] for key in ("setup", "run")}
    # What is added where a variable is set, as ${WEIGHTS:+--weights "$WEIGHTS"}, is part of it.
    texts = {name: re.sub(r"\$\{\w+:\+([^}]*)\}", r"\1", text) for name, text in texts.items()}
    return [Block(name, 1, "bash", frozenset(), text) for name, text in texts.items()]


@pytest.mark.parametrize("block", written(), ids=lambda block: block.page)
def test_commands_of_scripts_can_be_typed(block):
    commands = typer.main.get_command(app).commands
    assert block.commands
    for command, *words in block.commands:
        words = [word.replace("$SLURM_ARRAY_TASK_ID/$JOBS", "3/16") for word in words]
        commands[command].make_context(command, words)  # raises what is wrong


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({}, ["--estimator", "vits", "--then-tokenize"]),
        (
            {"ESTIMATOR": "vitl", "WEIGHTS": "my weights/vitl.pth"},
            ["--estimator", "vitl", "--weights", "my weights/vitl.pth", "--then-tokenize"],
        ),
    ],
)
def test_estimator_and_weights_of_a_job_array_are_chosen(tmp_path, chosen, words):
    command = tmp_path / "depthtok"
    command.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    command.chmod(0o755)
    around = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": "3"}
    script = ["bash", EXAMPLES / "slurm/codes.sbatch"]
    said = subprocess.run(
        script, env=around | chosen, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert said[:2] == ["annotate", "runs/episodes"]
    assert said[2 : 2 + len(words)] == words
    assert said[-2:] == ["--shard", "3/16"]


def test_ray_takes_the_cluster_file(monkeypatch):
    from ray.autoscaler._private.util import prepare_config, validate_config

    monkeypatch.setenv("USER", "someone")
    cluster = yaml.safe_load((EXAMPLES / "ray/cluster.yaml").read_text())
    prepared = prepare_config(cluster)
    validate_config(prepared)
    assert prepared["max_workers"] == len(cluster["provider"]["worker_ips"]) == 1
