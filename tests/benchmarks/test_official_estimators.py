"""The one command that compares all published estimators."""

from pathlib import Path

import official_estimators as official
import pytest

from depthtok.stores.codebook import Codebook
from depthtok.stores.depth import DepthStore
from depthtok.testing import make_rlds
from pipelines.depth.registry import ESTIMATORS
from tests.pipelines.ray.test_ray_estimators import da3_small


@pytest.fixture
def typed(monkeypatch):
    """The commands that are run; `annotate` with vitl fails, as where its weights are not had."""
    commands = []

    def run(*words):
        commands.append([str(word) for word in words])
        return 2 if "vitl" in words else 0

    monkeypatch.setattr(official, "depthtok", run)
    return commands


def test_every_estimator_is_known():
    assert set(official.ESTIMATORS) <= set(ESTIMATORS)


def test_one_without_weights_is_named_and_left_out(typed, capsys):
    assert official.compare(["vits", "vitl", "da3-base"], Path("out"), ["--size", "64"]) == 1
    assert "not in the table: vitl" in capsys.readouterr().out
    assert [words[0] for words in typed] == ["convert", *["annotate"] * 4, "audit-depth"]
    assert typed[2][-3:] == ["vits", "--size", "64"]
    *_, audit = typed
    assert audit[1:5] == ["--estimated", "out/vits", "--estimated", "out/da3-base"]
    assert audit[5:8] == ["--truth", "out/true-depth", "--out"]


def test_none_at_all_is_a_failure(typed):
    assert official.compare(["vitl"], Path("out")) == 1
    assert typed[-1][0] == "annotate"


def test_all_in_the_table_is_success(typed):
    assert official.compare(["vits", "vitb"], Path("out")) == 0
    *_, audit = typed
    assert Codebook.load(Path(audit[audit.index("--codebook") + 1])).size == (256, 256)


def test_weights_that_are_had_are_found_and_the_others_named(tmp_path, monkeypatch, capfd):
    """Really run, offline: of two estimators the cache of the Hub has one, with random weights."""
    snapshot = tmp_path / "models--depth-anything--DA3-SMALL" / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    da3_small(snapshot / "model.safetensors")
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("c0ffee")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody answers there
    rlds, small = make_rlds(tmp_path / "rlds", shards=1), ["--size", "32", "--set", "input_size=28"]
    assert official.compare(["da3-small", "da3-base"], tmp_path / "out", small, rlds) == 1
    printed, said = capfd.readouterr()
    assert "not in the table: da3-base (why: above)" in printed
    assert "the weights of da3-base are not in the Hub cache and cannot be downloaded" in said
    assert "da3-small" in (tmp_path / "out" / "audit" / "report.json").read_text()
    spec = DepthStore(tmp_path / "out" / "da3-small").spec
    assert "/resolve/" not in spec.place["weights_from"]
    assert "c0ffee" in spec.place["weights_from"]
