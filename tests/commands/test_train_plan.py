"""train-vla --plan and --deterministic, as given on a command line."""

import json
from pathlib import Path

import pytest

from tests.commands.trainings import call

BEFORE = Path(__file__).parents[1] / "data" / "before"


def given(out, *more):
    return [
        "train-vla",
        "--episodes",
        BEFORE / "episodes",
        "--codes",
        BEFORE / "codes",
        "--codebook",
        BEFORE / "codebook",
        "--source-root",
        BEFORE / "rlds" / "1.0.0",
        "--held-out",
        0.4,
        "--threads",
        1,
        "--force",
        "--device",
        "cpu",
        "--out",
        out,
        *more,
    ]


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def test_a_pass_that_does_not_fit_is_told(tmp_path, no_gpu):
    """The full model at 64 samples: more than either card has; nothing is written."""
    printed = call(
        *given(
            tmp_path / "run", "--preset", "qdepth", "--batch", 128, "--micro-batch", 64, "--plan"
        )
    )
    lines = printed.splitlines()
    assert "in 2 passes an update" in printed
    fits = {line.split()[0]: line for line in lines if "samples a pass" in line}
    assert "does NOT fit" in fits["H100"]
    assert "does NOT fit" in fits["H200"]
    assert "--set run.micro_batch=N" in lines[-1]
    assert not (tmp_path / "run").exists()


def test_the_plan_for_programs(tmp_path, no_gpu):
    plan = json.loads(
        call(
            *given(
                tmp_path / "run",
                "--preset",
                BEFORE / "micro.toml",
                "--batch",
                4,
                "--plan",
                "--json",
            )
        )
    )
    assert (plan["samples"], plan["passes"]) == (4, 1)
    assert plan["peak"] >= plan["weights"] + plan["moments"] + plan["gradients"]
    assert plan["largest_pass"]["H100"] > 1000


def test_deterministic_is_a_flag(tmp_path, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    call(
        *given(
            tmp_path / "run",
            "--preset",
            BEFORE / "micro.toml",
            "--batch",
            4,
            "--steps",
            1,
            "--validate-every",
            0,
            "--deterministic",
        )
    )
    settings = json.loads((tmp_path / "run" / "config.json").read_text())
    assert settings["train"]["deterministic"] is True
