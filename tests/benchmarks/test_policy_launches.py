"""Launches of a chunk of actions, counted: the counter by hand, and the limit of the full model."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module
    for name in ("launches", "policy_launches", "policy_ms"):
        sys.modules.pop(name, None)


def test_views_are_free_and_kernels_count_once(script):
    x, w = torch.empty(4, 8, device="meta"), torch.empty(8, 8, device="meta")
    with torch.no_grad(), script("launches").counting() as tally:
        y = F.linear(x.view(2, 2, 8).flatten(0, 1), w)  # one product
        y = F.rms_norm(y, (8,), None, 1e-6)[:, :4].to(torch.bfloat16)  # two
        heads = y.view(1, 1, 4, 4)
        mask = torch.empty(4, 4, dtype=torch.bool, device="meta")
        F.scaled_dot_product_attention(heads, heads, heads, mask)  # zeros, full, where, attention
    assert tally.launches == {
        "mm float32": 1,
        "rms_norm float32": 1,
        "_to_copy float32": 1,
        "new_zeros": 1,
        "new_full": 1,
        "where bfloat16": 1,
        "attention bfloat16": 1,
    }
    assert (tally.total, tally.copies) == (7, 0)
    product, norm, cast = 4 * (32 + 64 + 32), 4 * (32 + 32), 16 * (4 + 2)
    zeros, full, where_bytes = 2 * 16, 2, 16 + 2 * 16 + 2 + 2 * 16
    kernel = 2 * 5 * 16  # queries, keys, values, bias, output
    assert tally.bytes == product + norm + cast + zeros + full + where_bytes + kernel


def test_a_product_that_adds_a_matrix_copies_it_unless_in_place(script):
    x, bias = torch.empty(4, 4, device="meta"), torch.empty(4, device="meta")
    with script("launches").counting() as tally:
        torch.addmm(bias, x, x)
        torch.addmm(x, x, x)
        x.addmm_(x, x)
    assert (tally.total, tally.copies) == (3, 1)


@pytest.mark.parametrize("cameras", [1, 2, 3])
def test_a_chunk_of_the_full_model_takes_at_most_4300_launches(script, cameras):
    count, load = script("policy_launches").count, importlib.import_module("vla.named_configs").load
    config = load("qdepth", {"model.cameras": cameras}).model
    plain, folded, compiled = (count(config, name) for name in ("plain", "folded", "compiled"))
    assert plain.total > 9000
    assert folded.total + folded.copies <= 4300
    assert compiled.total <= 3000


def test_milliseconds_are_measured_with_their_floor(script, monkeypatch, capsys, tmp_path):
    words = ["policy_ms.py", "--preset", "tiny", "--device", "cpu", "--cameras", "2", "--rounds"]
    monkeypatch.setattr(sys, "argv", [*words, "1", "--batch", "3", "--json", f"{tmp_path}/rows"])
    script("policy_ms").main()
    printed = capsys.readouterr().out
    assert "tf32 is for NVIDIA GPUs" in printed
    rows = [json.loads(line) for line in (tmp_path / "rows").read_text().splitlines()]
    rows = {(r["model"], r["precision"], r["sampler"]): r for r in rows if "ms" in r}
    assert len(rows) == 8
    assert all(0 < row["floor_ms"] < row["ms"] for row in rows.values())
    assert rows["tiny", "float32", "plain"]["off"] == 0
    assert rows["tiny", "float32", "folded"]["off"] < 1e-5
    assert 1e-4 < rows["tiny", "bfloat16", "folded"]["off"] < 0.5
