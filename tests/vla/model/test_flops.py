"""The arithmetic of the paper's model, part by part."""

import json

import pytest
import torch

from vla.model.flops import _peak, forward_flops, peak_tflops
from vla.named_configs import load
from vla.run_options import TrainingOptions
from vla.training import train as training


def test_the_paper_model():
    model = load("qdepth", {"model.max_text": 20}).model  # as open-pi-zero
    gigaflops = {name: count / 1e9 for name, count in forward_flops(model).items()}
    assert gigaflops["vision"] == pytest.approx(219, rel=0.01)
    assert gigaflops["vlm"] == pytest.approx(1046.7, rel=0.01)
    assert gigaflops["depth"] + gigaflops["depth_in"] + gigaflops["depth_head"] == pytest.approx(
        181, rel=0.02
    )
    assert gigaflops["total"] == pytest.approx(1451, rel=0.01)


def test_no_depth_expert_no_depth_arithmetic():
    with_depth, without = (forward_flops(load(n).model) for n in ("tiny", "tiny+no-depth-expert"))
    assert "depth" not in without
    assert without["total"] < with_depth["total"]


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100-PCIE-40GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        ("NVIDIA A10", 125),
        ("NVIDIA H200 MIG 1g.18gb", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("Tesla V100-SXM2-16GB", None),
    ],
)
def test_peaks_are_of_whole_known_gpus(name, peak):
    assert _peak(name) == peak


def test_a_run_tells_its_share_of_the_peak(micro, toy, codebook, tmp_path, monkeypatch):
    """Of all ranks' GPUs; nothing where the peak is not known, as of CPUs."""
    assert peak_tflops(torch.device("cpu")) is None
    config = micro(train__steps=1)
    for peak in (None, 2.0):
        monkeypatch.setattr(training, "peak_tflops", lambda device, peak=peak: peak)
        out = tmp_path / str(peak)
        training.train(
            config, toy(config), out, TrainingOptions(loader_threads=0), codebook=codebook
        )
        (line,) = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
        assert line.get("mfu") == (peak and pytest.approx(line["tflops"] / peak))
        assert line["tflops"] > 0
