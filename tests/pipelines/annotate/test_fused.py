"""annotate --then-tokenize gives the codes of the two stages, and leaves no depth behind."""

from dataclasses import replace

import numpy as np
import pytest

from depthtok.config import RunOptions
from depthtok.errors import ConfigError, StoreError
from depthtok.stores.codebook import Codebook
from depthtok.stores.codes import CodeStore
from depthtok.stores.verify import verify_store
from depthtok.testing import make_rlds, temporaries, tree_digest
from pipelines.annotate import stage as annotate
from pipelines.annotate.fused import SPILL, FusedStage
from pipelines.config import TokenizeConfig
from pipelines.depth.families import fresh
from pipelines.depth.gem.config import gem_config
from pipelines.depth.vida.weights import save_network
from pipelines.plan import plan
from pipelines.run import run


def fused(path, out, config=None, **settings):
    stage = path.stage("annotate", out=path.root / "never", **settings)
    return FusedStage(
        stage, Codebook.load(path.book), out, config or TokenizeConfig(), {"failures": []}
    )


def arrays(store):
    """Digests of everything but what says how it was made."""
    digests = tree_digest(store)
    return {
        name: sha for name, sha in digests.items() if name.endswith("zarr.json") or "/c/" in name
    }


def test_fused_codes_are_those_of_the_two_stages(whole, tmp_path):
    outcome = run(fused(whole, tmp_path / "codes"), RunOptions())
    assert outcome.exit_code == 0
    one, two = arrays(tmp_path / "codes"), arrays(whole.root / "tokenize")
    one.pop("zarr.json"), two.pop("zarr.json")
    assert one == two
    store, other = CodeStore(tmp_path / "codes"), CodeStore(whole.root / "tokenize")
    assert store.about == other.about
    for part, reference in zip(store.parts(), other.parts(), strict=True):
        assert part.manifest["episodes"] == reference.manifest["episodes"]
        assert part.manifest["files"] == reference.manifest["files"]
    assert list(verify_store(tmp_path / "codes")) == []
    assert not (whole.root / "never").exists()
    assert not list((tmp_path / "codes").rglob(SPILL))
    assert run(fused(whole, tmp_path / "codes"), RunOptions()).kept == 3


@pytest.mark.parametrize("estimator", ["tiny", "gemdepth-tiny"])
def test_the_network_and_its_codes_in_one_worker(whole, tmp_path, estimator):
    settings = {"estimator": estimator, "input_size": 28, "camera": ("image",)}
    weights = None
    if estimator == "gemdepth-tiny":  # none are published
        weights = tmp_path / "gem.safetensors"
        save_network(fresh(gem_config(estimator), seed=0), weights)
    codes = fused(whole, tmp_path / "codes", **settings)
    run(replace(codes, annotate=replace(codes.annotate, weights=weights)), RunOptions())
    depth = whole.stage("annotate", out=tmp_path / "depth", **settings)
    run(replace(depth, weights=weights), RunOptions())
    from depthtok.stores.depth import DepthStore
    from pipelines.tokenize import TokenizeStage

    stage = TokenizeStage(
        DepthStore(tmp_path / "depth"),
        Codebook.load(whole.book),
        tmp_path / "two",
        TokenizeConfig(),
        "cpu",
        {"failures": []},
    )
    run(stage, RunOptions())
    one, two = CodeStore(tmp_path / "codes"), CodeStore(tmp_path / "two")
    assert [p.manifest["files"] for p in one.parts()] == [p.manifest["files"] for p in two.parts()]
    assert next(one.parts()).meta["device"] == "cpu"


def test_failures_of_both_stages_are_recorded(tmp_path, over, monkeypatch):
    def edit(number, values):
        depth = values["steps/observation/depth"]
        if number == 1:
            values["steps/observation/depth"] = [b"no picture"] * len(depth)
        if number == 2:
            values["steps/observation/depth"] = np.zeros_like(depth)

    monkeypatch.setattr(annotate, "PART_FRAMES", 10)
    path = over(make_rlds(tmp_path / "rlds", shards=1, edit=edit))
    path.run_all()
    outcome = run(fused(path, tmp_path / "codes"), RunOptions())
    assert [failure.key.index for failure in outcome.failures] == [1, 2]
    assert outcome.exit_code == 1
    assert temporaries(tmp_path) == []
    one, two = CodeStore(tmp_path / "codes"), CodeStore(path.root / "tokenize")
    assert [p.manifest["files"] for p in one.parts()] == [p.manifest["files"] for p in two.parts()]
    assert run(fused(path, tmp_path / "codes"), RunOptions(retry_failed=True)).remade == 2


def test_what_is_refused_and_planned(whole, tmp_path):
    with pytest.raises(StoreError, match="codebook is for"):
        run(fused(whole, tmp_path / "codes", size=16), RunOptions())
    with pytest.raises(ConfigError, match="not annotated"):
        run(fused(whole, tmp_path / "codes", TokenizeConfig(camera=("side",))), RunOptions())
    planned = plan(fused(whole, tmp_path / "codes"), RunOptions())
    assert planned.bytes == 60 * 16
