"""AdamW of 8 bits: resumes from the same bits, stays near AdamW, and says what it needs."""

import json
import sys
from dataclasses import replace

import pytest
import torch

from depthtok.errors import ConfigError, MissingPackage
from vla.run_options import TrainingOptions
from vla.training import checkpoint
from vla.training.train import train

QUIET = TrainingOptions(loader_threads=0, log_every=1, checkpoint_every=4)


def losses(run):
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.filterwarnings("ignore")  # of a package that looks for its GPU kernels
def test_resume_is_exact(micro, toy, codebook, tmp_path, monkeypatch):
    pytest.importorskip("torchao.optim")
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)  # the same, in no time
    config = micro(train__optimizer="adamw8bit", train__lr=1e-2)
    data = toy(config)
    train(config, data, tmp_path / "a", QUIET, codebook=codebook)
    reports = []
    train(
        config,
        data,
        tmp_path / "b",
        QUIET,
        codebook=codebook,
        on_step=reports.append,
        should_stop=lambda: len(reports) == 3,
    )
    train(config, data, tmp_path / "b", QUIET, codebook=codebook)
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    last = [checkpoint.steps(tmp_path / name)[-1] for name in "ab"]
    for kind in ("model", "optimizer"):
        a, b = (checkpoint.read_tensors(path, kind) for path in last)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)
    assert {tensor.dtype for name, tensor in a.items() if name.endswith(".codes")} == {torch.uint8}
    plain = replace(config, train=replace(config.train, optimizer="adamw"))
    train(plain, data, tmp_path / "c", QUIET, codebook=codebook)
    assert losses(tmp_path / "a") == pytest.approx(losses(tmp_path / "c"), rel=0.05)
    assert losses(tmp_path / "a") != losses(tmp_path / "c")


def test_what_it_needs(micro, toy, codebook, tmp_path, monkeypatch):
    config = micro(train__optimizer="adamw8bit")
    options = replace(QUIET, sharding="fsdp")
    with pytest.raises(ConfigError, match="cannot be gathered"):
        train(config, toy(config), tmp_path, options, codebook=codebook)
    monkeypatch.setitem(sys.modules, "torchao", None)
    monkeypatch.setitem(sys.modules, "torchao.optim", None)
    with pytest.raises(MissingPackage, match="torchao") as caught:
        train(config, toy(config), tmp_path, QUIET, codebook=codebook)
    assert "depthtok[eightbit]" in caught.value.remedy
    with pytest.raises(ConfigError, match=r"train.optimizer = 'adam'"):
        micro(train__optimizer="adam")
