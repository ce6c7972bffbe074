"""Two stores of codes side by side."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from depthtok.cli.main import app
from depthtok.config import RunOptions
from depthtok.errors import ConfigError, StaleStore
from depthtok.stores.codes import CodeStore
from pipelines.run import run
from vqvae.quality.agreement import Agreement, CameraAgreement


def test_figures_of_an_episode():
    a = np.array([[[1, 1]], [[1, 2]], [[1, 2]]], np.uint8)
    b = np.array([[[1, 3]], [[2, 3]], [[1, 2]]], np.uint8)
    camera = CameraAgreement((1, 2))
    camera.add(a, b)
    camera.add(a[:1], a[:1])  # one frame alone has no changes
    assert camera.estimate("same").mean == pytest.approx((3 / 6 + 1) / 2)
    assert camera.estimate("changes_a").mean == 1 / 4
    assert camera.estimate("changes_b").mean == 3 / 4
    assert (camera.estimate("only_a").mean, camera.estimate("only_b").mean) == (1 / 4, 3 / 4)
    np.testing.assert_allclose(camera.shares(), [[3 / 4, 2 / 4]])
    # A: 1 in 6 of 8, 2 in 2; B: 1 in 4, 2 in 2, 3 in 2.
    assert camera.by_chance == pytest.approx((6 * 4 + 2 * 2) / 64)


def test_codes_of_the_same_depth_made_in_two_ways(whole, tmp_path):
    sticky = tmp_path / "sticky"
    run(whole.stage("tokenize", sticky, sticky=5.0), RunOptions())
    words = ["compare", whole.root / "tokenize", sticky, "--out", tmp_path, "--json"]
    result = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    printed = json.loads(result.stdout)
    a, b = CodeStore(whole.root / "tokenize"), CodeStore(sticky)
    assert printed["alone"] == [0, 0]
    for name, camera in printed["cameras"].items():
        shares = [
            np.mean(a.grid_of(key, name).codes == b.grid_of(key, name).codes)
            for part in a.parts()
            for key in map(part.shard.episode, part.indices.tolist())
        ]
        assert camera["same"]["mean"] == pytest.approx(np.mean(shares))
        assert camera["changes_b"]["mean"] < camera["changes_a"]["mean"]
    assert "Two code stores" in (tmp_path / "compare.html").read_text()


def test_what_has_nothing_in_common_is_refused(whole, monkeypatch):
    codes = CodeStore(whole.root / "tokenize")
    other = CodeStore(whole.root / "tokenize")
    other.cameras = ("elsewhere",)
    with pytest.raises(ConfigError, match="no camera in common"):
        Agreement.of(codes, other)
    other.codebook = "another"
    with pytest.raises(StaleStore):
        Agreement.of(codes, other)
