"""Attention over time as a Triton kernel: where it may be asked for, and what it computes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from depthtok.errors import ConfigError, MissingPackage
from pipelines.depth.vida.config import CONFIGS, RunConfig
from pipelines.depth.vida.estimator import load_estimator, spec_of
from tests.pipelines.depth.vida.made import tiny_network

CUDA = torch.device("cuda")


def test_interpreted_it_computes_attention():
    pytest.importorskip("triton", reason="the extra `dev` has Triton on Linux")
    file = Path(__file__).with_name("interpreted_kernel.py")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", file],
        env={**os.environ, "TRITON_INTERPRET": "1", "DEPTHTOK_CHECK_CALLS": "0"},
        capture_output=True,
        text=True,
    )
    assert "10 passed" in run.stdout, run.stdout + run.stderr


@pytest.mark.parametrize(
    ("precision", "device", "problem"),
    [("float32", "cuda", "is for half precision"), ("float16", "mps", "on device mps")],
)
def test_it_is_refused_elsewhere(precision, device, problem):
    run = RunConfig(precision=precision, attention="kernel")
    with pytest.raises(ConfigError, match=problem):
        run.resolved(CONFIGS["tiny"], device)


def test_a_name_that_is_not_known_is_refused():
    with pytest.raises(ConfigError, match="attention = 'kernle' is not known") as error:
        RunConfig(attention="kernle")
    assert "kernel" in error.value.remedy


def test_it_is_recorded_and_required_of_every_worker(monkeypatch):
    network = tiny_network()
    made_with = dict(spec_of(network, RunConfig(attention="kernel"), CUDA).settings)
    assert made_with["attention"] == "kernel"
    assert "attention" not in dict(spec_of(network, RunConfig(), CUDA).settings)
    run = RunConfig().like(made_with)
    assert (run.attention, RunConfig().like({}).attention) == ("kernel", "fused")
    monkeypatch.setattr("pipelines.depth.vida.estimator.find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match="needs Triton"):
        load_estimator(CONFIGS["tiny"], None, run, CUDA)
