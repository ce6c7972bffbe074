"""`make bench-gpu`, small and on a CPU: every script runs, and what fails is told."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def gpu():
    spec = importlib.util.spec_from_file_location("bench_gpu", FOLDER / "gpu.py")
    module = sys.modules["bench_gpu"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(gpu, monkeypatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gpu.py", *words])
    return gpu.main()


@pytest.mark.unchecked  # what is measured is not checked
def test_every_script_runs_small(gpu, monkeypatch, tmp_path):
    names = [script.name for script in gpu.SCRIPTS if (FOLDER / script.name).is_file()]
    assert {"vida_gpu.py", "vla_updates.py", "vq_rate.py"} <= set(names)
    assert run(gpu, monkeypatch, "--tiny", "--out", str(tmp_path), "--only", *names) == 0
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert {row["script"] for row in rows} == set(names)
    assert {row["torch"] for row in rows} == {torch.__version__}
    refused = [row for row in rows if "failed" in row]  # ways that a CPU does not have
    assert {row["script"] for row in refused} == {"policy_ms.py"}
    assert all("tf32 is for NVIDIA GPUs" in row["failed"] for row in refused)
    measured = [row for row in rows if row not in refused]
    assert all(row["figure"] > 0 for row in measured)
    kinds = {row["what"]: row["unit"] for row in measured}
    assert kinds["tokenize"] == "frames/s"
    assert kinds["train-vqvae, batch 24"] == "steps/s"
    assert kinds["crops alone"] == "steps/CPU-s"
    shares = {row["what"]: row["ratio"] for row in rows}
    assert shares["tokenize"] > 0
    assert shares["crops alone"] is None
    table = (tmp_path / "table.md").read_text().splitlines()
    assert len(table) == 2 + len(rows)
    assert len({line.count("|") for line in table}) == 1


def test_without_a_gpu_it_says_so_and_fails(gpu, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run(gpu, monkeypatch, "--out", str(tmp_path / "out")) == 1
    assert "finds no CUDA device: nothing was measured" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "failed"),
    [
        ("import sys; print('half'); sys.exit('no memory left')", "no memory left"),
        ("print('nothing')", "it found nothing"),
        (None, "it is not in this folder"),
    ],
)
def test_a_script_that_fails_leaves_the_others_rows(gpu, monkeypatch, tmp_path, text, failed):
    good = 'import sys; open(sys.argv[-1], "a").write(\'{"what": "a", "figure": 2.0, "unit": '
    (tmp_path / "good.py").write_text(good + '"ms", "floor": 1.0}\\n\')')
    if text:
        (tmp_path / "bad.py").write_text(text)
    scripts = [gpu.Script(name, "", "", gpu.as_it_is) for name in ("bad.py", "good.py")]
    monkeypatch.setattr(gpu, "FOLDER", tmp_path)
    monkeypatch.setattr(gpu, "SCRIPTS", scripts)
    assert run(gpu, monkeypatch, "--tiny", "--out", str(tmp_path / "out")) == 1
    bad, row = map(json.loads, (tmp_path / "out" / "rows.jsonl").read_text().splitlines())
    assert (bad["script"], bad["failed"]) == ("bad.py", failed)
    assert (row["what"], row["ratio"]) == ("a", 0.5)  # of a time, the floor is the smaller


def test_the_floor_of_depth_is_the_cards_arithmetic(gpu):
    row = {
        "network": "vits",
        "way": "eager",
        "precision": "float16",
        "frames_per_second": 526.0,
        "floor": 6172.0,
    }
    assert gpu.of_vida(row, 790)["floor"] == 6172
    slower = gpu.of_vida(row, 395)
    assert slower["floor"] == 3086
    assert gpu.ratio(slower) == pytest.approx(0.17, abs=0.001)


def test_what_a_card_refuses_has_no_figure(gpu):
    way = {"precision": "tf32", "sampler": "plain", "graph": False, "model": "qdepth", "cameras": 1}
    refused = gpu.of_policy({**way, "refused": "tf32 needs a newer card"}, 790)
    assert refused["failed"] == "tf32 needs a newer card"
    assert gpu.of_policy({**way, "ms": 20.0, "floor_ms": 4.0}, 790)["unit"] == "ms"
