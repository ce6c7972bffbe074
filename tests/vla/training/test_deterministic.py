"""`train.deterministic`: what it sets, restores, records and refuses; on CUDA, equal bits."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from depthtok.errors import ConfigError, StaleStore, TrainingError
from vla.run_options import TrainingOptions
from vla.training import deterministic
from vla.training import resume as going_on
from vla.training.deterministic import WORKSPACE, reproducible
from vla.training.train import train

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
OPTIONS = TrainingOptions(loader_threads=0, log_every=1, checkpoint_every=2)
on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def flags():
    cudnn = torch.backends.cudnn
    return (
        torch.are_deterministic_algorithms_enabled(),
        cudnn.deterministic,
        not cudnn.benchmark,
        not torch.backends.cuda.cudnn_sdp_enabled(),
    )


def test_all_is_set_in_the_block_and_restored():
    before = flags()
    with reproducible(True, CPU):
        assert flags() == (True, True, True, True)
    assert flags() == before
    with reproducible(False, CPU):
        assert flags() == before
    with pytest.raises(ValueError, match="mine"), reproducible(True, CPU):
        raise ValueError("mine")
    assert flags() == before


@pytest.fixture
def environment(monkeypatch):
    """Sets the variable, and whether CUDA has started."""

    def given(value, started):
        monkeypatch.setenv(WORKSPACE, "")  # so that it is taken away again
        monkeypatch.delenv(WORKSPACE)
        if value is not None:
            monkeypatch.setenv(WORKSPACE, value)
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: started)

    return given


@pytest.mark.parametrize(
    ("value", "started", "after"),
    [(None, False, ":4096:8"), (":16:8", True, ":16:8"), (":4096:8", False, ":4096:8")],
)
def test_what_cublas_reads_is_set_in_time(environment, value, started, after):
    import os

    environment(value, started)
    deterministic.before_cuda()
    assert os.environ[WORKSPACE] == after


@pytest.mark.parametrize(
    ("value", "started", "said"),
    [(None, True, "CUDA has started"), (":0:0", False, "is ':0:0'")],
)
def test_too_late_is_refused(environment, value, started, said):
    environment(value, started)
    with pytest.raises(ConfigError, match=said), reproducible(True, CUDA):
        pass


def test_an_operation_without_such_a_form_is_refused():
    """Torch's own refusal, in words."""
    before = flags()
    with (
        pytest.raises(TrainingError, match="deterministic implementation"),
        reproducible(True, CPU),
    ):
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.ones(2))
    assert flags() == before


def test_a_compiler_that_measures_is_refused(monkeypatch):
    import torch._inductor.config

    deterministic._require_deterministic_compiler()
    monkeypatch.setattr(torch._inductor, "config", SimpleNamespace())
    with pytest.raises(ConfigError, match="cannot compile deterministically"):
        deterministic._require_deterministic_compiler()


def test_it_is_recorded_and_a_resumed_run_must_have_it(micro, toy, codebook, tmp_path):
    config, reports = micro(train__steps=4, train__deterministic=True), []
    during = []

    def step(line):
        reports.append(line)
        during.append(flags()[0])

    stop = {"on_step": step, "should_stop": lambda: len(reports) == 2}
    train(config, toy(config), tmp_path, OPTIONS, codebook=codebook, **stop)
    assert during == [True, True]
    assert json.loads((tmp_path / "config.json").read_text())["train"]["deterministic"] is True
    other = micro(train__steps=4)
    with pytest.raises(StaleStore, match=r"train\.deterministic = True"):
        train(other, toy(other), tmp_path, OPTIONS, codebook=codebook)
    assert train(config, toy(config), tmp_path, OPTIONS, codebook=codebook).step == 4


def test_a_resumed_run_says_on_cuda_that_bits_may_differ(micro, capsys):
    def told(device, **over):
        capsys.readouterr()
        going_on.tell_of_bits(Path("run"), micro(**over), device)
        return capsys.readouterr().err

    assert "last bits may differ" in told(CUDA)
    assert told(CUDA, train__deterministic=True) == ""
    assert told(CPU) == ""


@on_cuda
@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_two_runs_and_a_resumed_one_are_equal_on_cuda(
    micro, toy, codebook, tmp_path, precision, fast, monkeypatch
):
    monkeypatch.setenv(WORKSPACE, ":4096:8")
    config, reports = (
        micro(train__deterministic=True, train__precision=precision, train__fast=fast),
        [],
    )
    stop = {"on_step": reports.append, "should_stop": lambda: len(reports) == 3}
    for name, arguments in (("a", {}), ("b", {}), ("c", stop), ("c", {})):
        train(
            config,
            toy(config),
            tmp_path / name,
            OPTIONS,
            codebook=codebook,
            device="cuda",
            **arguments,
        )
    last = "checkpoints/step-000008/model.safetensors"
    a, *others = (load_file(tmp_path / name / last) for name in "abc")
    assert all(torch.equal(a[name], weights[name]) for weights in others for name in a)


@on_cuda
def test_a_resumed_run_goes_on_on_cuda(micro, toy, codebook, tmp_path):
    """Without the flag: the same samples, figures that agree, and a word about the bits."""
    config, reports = micro(), []
    train(config, toy(config), tmp_path / "a", OPTIONS, codebook=codebook, device="cuda")
    stop = {"on_step": reports.append, "should_stop": lambda: len(reports) == 3}
    for arguments in (stop, {}):
        train(
            config,
            toy(config),
            tmp_path / "b",
            OPTIONS,
            codebook=codebook,
            device="cuda",
            **arguments,
        )
    a, b = (
        [json.loads(line)["loss"] for line in (tmp_path / n / "metrics.jsonl").open()] for n in "ab"
    )
    assert a == pytest.approx(b, rel=1e-3)
