"""The benchmark of training runs small, on a CPU, in every way; and counts what `fast` spares."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"
SMALL = [
    f"--set={name}={value}"
    for name, value in {
        "model.vision.image_size": 32,
        "model.vision.patch": 8,
        "model.vision.width": 16,
        "model.vision.layers": 1,
        "model.vision.mlp": 16,
        "model.depth.grid": 4,
        **{f"model.{e}.layers": 1 for e in ("vlm", "action", "depth_expert")},
        **{f"model.{e}.width": 16 for e in ("vlm", "action", "depth_expert")},
        **{f"model.{e}.mlp": 16 for e in ("vlm", "action", "depth_expert")},
    }.items()
]


@pytest.fixture
def updates(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("vla_updates")
    for name in ("vla_updates", "vla_step"):
        sys.modules.pop(name, None)


def run(updates, monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["vla_updates.py", "--preset", "tiny", *SMALL, *words])
    updates.main()


@pytest.mark.unchecked
@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_every_way_and_size(updates, monkeypatch, tmp_path):
    torch._dynamo.reset()
    found = tmp_path / "rows.jsonl"
    run(
        updates,
        monkeypatch,
        "--batch",
        "2",
        "--passes",
        "1",
        "2",
        "--rounds",
        "1",
        "--compiled",
        "0",
        "1",
        "--backend",
        "eager",
        "--json",
        str(found),
    )
    rows = [json.loads(line) for line in found.read_text().splitlines()]
    assert [row["what"].removeprefix("train-vla tiny, ") for row in rows] == [
        f"{how}, {order}, batch 2{passes}"
        for how in ("eager", "compiled")
        for order in ("plain", "fast")
        for passes in ("", " x 2")
    ]
    assert all(row["figure"] > 0 and row["floor"] > 0 for row in rows)


def test_what_does_not_fit_has_no_figure(updates, monkeypatch, tmp_path):
    def update(self, batch, step):
        if len(batch) > 2:
            raise torch.OutOfMemoryError("no room")
        return {}

    monkeypatch.setattr(updates.Update, "__call__", update)
    found = tmp_path / "rows.jsonl"
    run(updates, monkeypatch, "--batch", "2", "4", "--fast", "1", "--json", str(found))
    rows = [json.loads(line) for line in found.read_text().splitlines()]
    assert [row.get("failed") for row in rows] == [None, "no room"]
    assert "figure" not in rows[1]


def test_counts(updates, monkeypatch, capsys):
    """In two passes of bfloat16, the weights are cast once; no mask becomes a bias in a layer."""
    run(updates, monkeypatch, "--count", "--passes", "2", "--set", 'train.precision="bf16"')
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    changed = {words[0]: (int(words[1]), int(words[3])) for words in lines[1:]}
    assert lines[0][:4] == ["batch", "2", "x", "2:"]
    before, after = changed["_to_copy"]
    assert after < before
    assert changed["scalar_tensor"][1] == 0
    assert changed["sum"][1] < changed["sum"][0]
