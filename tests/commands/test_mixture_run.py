"""Two data sets in one run: their depth trains one codebook, their episodes one policy."""

import json

import pytest
from typer.testing import CliRunner

from depthtok.cli.main import app
from depthtok.stores.codes import CodeStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.testing import make_rlds

CONFIG = """
out = "{out}"
[data]
one = "{one}"
two = "{two}"
[annotate]
estimator = "dataset"
[train-vqvae]
preset = "{preset}"
weight = [3.0, 1.0]
[train-vla]
preset = "tiny"
weight = [1.0, 3.0]
steps = 4
batch = 8
held_out = 0.3
validate_every = 2
force = true
"""
PRESET = """
[network]
width = 16
decoder_width = 16
[quantizer]
warmup = 4
[training]
steps = 8
batch = 4
held_out = 0.3
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """What a run over two data sets with different names leaves."""
    root = tmp_path_factory.mktemp("mixture")
    names = {"one": "libero_sim_depth", "two": "libero_sample"}
    places = {
        short: make_rlds(root / short, episodes=4, steps=6, shards=2, seed=seed, name=name)
        for seed, (short, name) in enumerate(names.items())
    }
    (root / "preset.toml").write_text(PRESET)
    text = CONFIG.format(out=root / "out", preset=root / "preset.toml", **places)
    (root / "run.toml").write_text(text)
    result = CliRunner().invoke(app, ["run", str(root / "run.toml")], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "[8/8] train-vla" in result.output
    return root / "out"


def test_each_data_set_has_its_stores_and_all_share_the_codebook(out):
    books = set()
    for name in ("one", "two"):
        episodes, codes = EpisodeStore(out / name / "episodes"), CodeStore(out / name / "codes")
        assert all(episode.key in codes for episode in episodes)
        books.add(codes.codebook)
    assert len(books) == 1


def test_the_codebook_and_the_policy_learnt_from_both(out):
    book = (out / "codebook" / "codebook.json").read_text()
    state = json.loads(next((out / "policy" / "checkpoints").rglob("state.json")).read_text())
    assert set(state["norms"]) == {"libero_sim_depth", "libero_sample"}
    for name in state["norms"]:
        assert name in book
    judged = json.loads((out / "policy" / "validation.jsonl").read_text().splitlines()[-1])
    held = json.loads(book)["data"]["held_out"]
    assert sorted(name.partition("|")[2] for name in held) == sorted(judged["episodes"])
    assert len({name.partition("|")[0] for name in held}) == 2  # of each data set
    assert state["notes"]["held_out"] == {
        "rule": "key",
        "episodes": len(held),
        "learnt_from": 8 - len(held),
        "in_codebook": 0,
    }
    lines = (out / "policy" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 4
