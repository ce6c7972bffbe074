"""An export that is converted again is what it was: its depth an estimate, its licences known."""

import json
from dataclasses import replace

import numpy as np
import pytest

from depthtok.data import DepthKind
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.lineage import ESTIMATED, EXPORT_OF
from depthtok.testing import make_rlds
from pipelines.convert.exported import of_export
from pipelines.depth import registry
from pipelines.depth.da3.config import CONFIGS, tiny
from pipelines.depth.truth import doubt_about
from pipelines.export.joined import join
from pipelines.push.code_stores import publication
from tests.commands.trainings import DEMO, call
from tests.pipelines.depth.da3.test_weights import saved

METRIC = replace(tiny(metric=True), name="da3-metric-large")
SIZE = 256  # of the demo's codebook


@pytest.fixture
def stores(tmp_path, monkeypatch):
    """Episodes of a set with a licence, depth of them in metres that a network estimated, codes."""
    monkeypatch.setitem(CONFIGS, METRIC.name, METRIC)
    monkeypatch.setitem(registry.ESTIMATORS, METRIC.name, registry._da3(METRIC))
    saved(METRIC, tmp_path / "w.safetensors")
    named = {"size": SIZE, "name": "bridge_orig"}
    rlds = make_rlds(tmp_path / "rlds", episodes=2, steps=2, shards=1, **named)
    call("convert", rlds, "--schema", "libero_depth", "--out", tmp_path / "episodes")
    network = ["--estimator", METRIC.name, "--weights", tmp_path / "w.safetensors"]
    depth = ["--out", tmp_path / "depth", "--size", SIZE, "--input-size", 28]
    call("annotate", tmp_path / "episodes", *network, *depth)
    call("tokenize", tmp_path / "depth", "--codebook", DEMO, "--out", tmp_path / "codes")
    return tmp_path


def card_row(codes):
    text = publication(codes, "dataset", "", {}).card.text("hf://lab/codes")
    return next(line for line in text.splitlines() if line.startswith("| lerobot"))


def test_estimated_depth_stays_an_estimate_and_licences_stay_known(stores, capsys):
    both = ["--codes", stores / "codes", "--depth", stores / "depth"]
    out, back = stores / "lerobot", stores / "back"
    call("export", stores / "episodes", *both, "--out", out)
    call("convert", out, "--schema", out / "schema.toml", "--out", back)
    place = EpisodeStore(back).spec.place
    assert place[EXPORT_OF] == "bridge_orig"
    assert json.loads(place[ESTIMATED])["name"] == METRIC.name
    dataset = ["--estimator", "dataset", "--size", SIZE]
    call("annotate", back, *dataset, "--out", stores / "back-depth")
    depth, before = DepthStore(stores / "back-depth"), DepthStore(stores / "depth")
    assert depth.kind is DepthKind.METRES
    for key in ("name", "licence", "weights"):
        assert depth.estimator[key] == before.estimator[key]
    # Depth that returns is the depth that was exported, within a step of the video's codes.
    clips = [next(store.clips("image")).read() for store in (depth, before)]
    inside = clips[0].valid & (clips[1].values > 0.02)
    assert inside.any()
    np.testing.assert_allclose(clips[0].values[inside], clips[1].values[inside], atol=1.5e-3)
    call("tokenize", stores / "back-depth", "--codebook", DEMO, "--out", stores / "made-again")
    call("tokenize", back, "--codebook", DEMO, "--out", stores / "brought")
    for codes in ("made-again", "brought"):
        row = card_row(stores / codes)
        assert "| lerobot, an export of bridge_orig | CC BY 4.0 (says depthtok's schema" in row
        assert f"| {METRIC.name} | Apache-2.0 |" in row
    call("export", back, "--out", stores / "twice")  # an export of an export
    assert of_export(stores / "twice") == {EXPORT_OF: "bridge_orig"}
    assert "da3-metric-large estimated" in doubt_about(depth)
    words = ["finetune-depth", stores / "back-depth", "--estimator", METRIC.name, "--from-scratch"]
    more = [
        "--steps",
        1,
        "--batch",
        1,
        "--frames",
        2,
        "--input-size",
        28,
        "--held-out",
        0,
        "--set",
        "focal_px=256",
    ]
    capsys.readouterr()
    card = json.loads(call(*words, *more, "--out", stores / "m.safetensors", "--json"))
    told = {"name": METRIC.name, "licence": "Apache-2.0"}
    assert card["training"]["true_depth"] == [told]


def test_depth_of_the_data_set_itself_stays_true(stores):
    dataset = ["--estimator", "dataset", "--size", SIZE]
    call("annotate", stores / "episodes", *dataset, "--out", stores / "true")
    assert doubt_about(DepthStore(stores / "true")) == ""
    for format in ("lerobot", "rlds"):
        out = stores / f"as-{format}"
        words = ["--depth", stores / "true", "--format", format, "--out", out]
        call("export", stores / "episodes", *words)
        assert of_export(out) == {EXPORT_OF: "bridge_orig"}
    lost = join(EpisodeStore(stores / "episodes"), None, None).notes
    assert any("own depth of image, wrist_image is not exported" in note for note in lost)
    given = join(EpisodeStore(stores / "episodes"), None, DepthStore(stores / "true")).notes
    assert not any("own depth" in note for note in given)
    back = stores / "back"
    out = stores / "as-lerobot"
    call("convert", out, "--schema", out / "schema.toml", "--out", back)
    call("annotate", back, *dataset, "--out", stores / "back-true")
    specs = [DepthStore(stores / name).estimator for name in ("true", "back-true")]
    assert specs[0] == specs[1]
    assert of_export(stores / "as-rlds" / "elsewhere") == {}


def test_estimated_depth_comes_back_from_rlds_too(stores):
    out, back = stores / "1.0.0", stores / "back"
    depth = ["--depth", stores / "depth", "--format", "rlds"]
    call("export", stores / "episodes", *depth, "--out", out)
    call("convert", out, "--schema", out / "schema.toml", "--out", back)
    call("annotate", back, "--estimator", "dataset", "--size", SIZE, "--out", stores / "again")
    depth, before = DepthStore(stores / "again"), DepthStore(stores / "depth")
    assert depth.estimator["name"] == METRIC.name
    for one, two in zip(depth.clips(), before.clips(), strict=True):
        np.testing.assert_array_equal(one.read().values, two.read().values)
        np.testing.assert_array_equal(one.read().valid, two.read().valid)
