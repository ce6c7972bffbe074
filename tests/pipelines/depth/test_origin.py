"""Weights are what the estimator says: a file that is of another network is refused."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from depthtok.cli.main import app
from depthtok.errors import WeightsError
from depthtok.stores.arrays import group_json
from depthtok.stores.depth import DepthStore
from depthtok.testing import make_rlds
from pipelines.depth import origin as module
from pipelines.depth.learning.course import Course
from pipelines.depth.learning.finetune import FinetuneConfig
from pipelines.depth.learning.windows import WindowFamily
from pipelines.depth.origin import WeightsOrigin, origin_of
from pipelines.depth.vida.config import CONFIGS, RunConfig
from pipelines.depth.vida.estimator import load_estimator
from pipelines.depth.vida.fresh import fresh_network
from pipelines.depth.vida.published import PUBLISHED, SHIPPED
from pipelines.depth.vida.weights import load_network, save_network, weights_hash

TINY, METRIC = CONFIGS["tiny"], CONFIGS["metric-tiny"]
RELATIVE_ONES, METRIC_ONES = (
    tuple(name for name in PUBLISHED if name.startswith("metric-") == metric)
    for metric in (False, True)
)


@pytest.fixture(scope="module")
def tensors():
    torch.manual_seed(1)
    return fresh_network(TINY, seed=5).state_dict()


@pytest.mark.parametrize(
    ("path", "networks"),
    [
        *((published.file, (name,)) for name, published in PUBLISHED.items()),
        ("METRIC_Video_Depth_Anything_ViTB.PTH", ("metric-vitb",)),
        ("Video-Depth-Anything-vitl (1).pth", ("vitl",)),
        ("my video_depth_anything_vits metric.safetensors", ("metric-vits",)),
        ("metric_video_depth_anything.pth", METRIC_ONES),
        ("video_depth_anything.pth", ()),
        ("video_depth_anything_best.pth", ()),
        ("symmetric_video_depth_anything_vits.pth", ("vits",)),
        ("metric-vits.pth", ()),
        ("last.pth", ()),
        ("Video-Depth-Anything/checkpoints/last.pth", ()),
        ("Metric-Video-Depth-Anything-Small/model.safetensors", ("metric-vits",)),
        ("models--depth-anything--Video-Depth-Anything-Large/snapshots/a/model.pth", ("vitl",)),
        ("Metric-Video-Depth-Anything-Large/video_depth_anything_vits.pth", ("vits",)),
    ],
)
def test_what_a_name_says(tmp_path, path, networks):
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"weights")
    assert origin_of(file).networks == networks


def test_a_link_is_of_what_it_leads_to(tmp_path):
    (tmp_path / "metric_video_depth_anything_vits.pth").write_bytes(b"weights")
    link = tmp_path / "weights.pth"
    link.symlink_to("metric_video_depth_anything_vits.pth")
    assert origin_of(link).networks == ("metric-vits",)


@pytest.mark.parametrize(
    ("file", "given"),
    [
        ("metric_video_depth_anything_vits.pth", "vits"),
        ("video_depth_anything_vits.pth", "metric-vits"),
        ("Video_Depth_Anything_ViTS.pth", "vitb"),
        ("metric_video_depth_anything_vitl.safetensors", "metric-vitb"),
    ],
)
def test_published_weights_under_another_name_are_refused_before_they_are_read(
    tmp_path, file, given
):
    (tmp_path / file).write_bytes(b"not even weights")
    named = origin_of(tmp_path / file).networks[0]
    with pytest.raises(
        WeightsError, match=f"of {named} .*{re.escape(file)}.*, not of {given}"
    ) as e:
        load_estimator(CONFIGS[given], tmp_path / file, RunConfig(), torch.device("cpu"))
    assert f"--estimator {named}" in e.value.remedy
    inverted = named.startswith("metric-") != given.startswith("metric-")
    assert ("near and far would be swapped" in e.value.problem) == inverted


@pytest.mark.parametrize(("made", "given"), [(TINY, METRIC), (METRIC, TINY)])
def test_our_own_files_say_what_they_are_whatever_their_name(tmp_path, tensors, made, given):
    network = fresh_network(made, seed=5)
    save_network(network, tmp_path / "mine.safetensors")
    assert load_network(made, tmp_path / "mine.safetensors").origin == WeightsOrigin(
        (made.name,), "its metadata"
    )
    with pytest.raises(
        WeightsError, match=f"of {made.name} .by its metadata., not of {given.name}"
    ):
        load_network(given, tmp_path / "mine.safetensors")
    named = tmp_path / "metric_video_depth_anything_vits.safetensors"
    save_network(network, named)  # the metadata is stronger than the name
    assert load_network(made, named).origin.known_by == "its metadata"


def test_a_card_counts_for_the_tensors_that_it_is_about_and_no_others(tmp_path, tensors):
    path = tmp_path / "mine.pth"
    torch.save(tensors, path)
    digest = weights_hash(load_network(TINY, path))
    path.with_suffix(".json").write_text(json.dumps({"name": "tiny", "weights_sha256": digest}))
    assert load_network(TINY, path).origin == WeightsOrigin(("tiny",), "the card beside it")
    with pytest.raises(WeightsError, match=r"of tiny .by the card beside it., not of metric-tiny"):
        load_network(METRIC, path)
    path.with_suffix(".json").write_text(
        json.dumps({"name": "tiny", "weights_sha256": "of others"})
    )
    assert load_network(METRIC, path).origin == WeightsOrigin()
    path.with_suffix(".json").write_text("no card")
    assert load_network(METRIC, path).origin == WeightsOrigin()


def test_a_published_file_is_known_by_its_hash_under_any_name(tmp_path, tensors, monkeypatch):
    path = tmp_path / "video_depth_anything_vits.pth"
    torch.save(tensors, path)
    data = path.read_bytes()
    pinned = replace(
        PUBLISHED["metric-vits"], bytes=len(data), sha256=hashlib.sha256(data).hexdigest()
    )
    monkeypatch.setitem(module.PUBLISHED, "metric-vits", pinned)
    origin = origin_of(path)
    assert origin.networks == ("metric-vits",)
    assert "hash" in origin.known_by
    path.write_bytes(data[:-1] + b"x")
    assert origin_of(path).networks == ("vits",)


def test_the_hashes_are_of_different_files():
    assert len({p.sha256 for p in PUBLISHED.values()} | {p.bytes for p in PUBLISHED.values()}) == 12
    assert all(re.fullmatch(r"[0-9a-f]{64}", p.sha256) for p in PUBLISHED.values())


def test_what_ships_is_known():
    assert origin_of(SHIPPED / "tiny.safetensors") == WeightsOrigin(("tiny",), "its metadata")


def test_weights_of_another_size_say_which_estimator_they_fit(tmp_path, tensors):
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match="does not match vits") as caught:
        load_network(CONFIGS["vits"], tmp_path / "a.safetensors")
    assert "those of tiny and metric-tiny: give that --estimator" in caught.value.remedy
    save_file({"x": torch.zeros(1)}, tmp_path / "b.safetensors")
    with pytest.raises(WeightsError) as caught:
        load_network(TINY, tmp_path / "b.safetensors")
    assert "fits no estimator" in caught.value.remedy


def test_training_may_start_from_the_other_kind_but_not_from_another_size(tmp_path):
    save_network(fresh_network(TINY, seed=5), tmp_path / "a.safetensors")
    out = tmp_path / "b.safetensors"
    start = {"weights": tmp_path / "a.safetensors", "out": out, "data": "d"}
    course = Course(WindowFamily(METRIC), FinetuneConfig(), [], [], **start)
    assert course.start.origin.networks == ("tiny",)
    with pytest.raises(WeightsError, match=r"of tiny .* not of metric-vits"):
        _ = Course(WindowFamily(CONFIGS["metric-vits"]), FinetuneConfig(), [], [], **start).start


def annotated(tmp_path, weights: Path):
    rlds = make_rlds(tmp_path / "rlds", episodes=1, steps=2, shards=1)
    arguments = [
        "annotate",
        rlds,
        "--out",
        tmp_path / "depth",
        "--estimator",
        "tiny",
        "--input-size",
        "28",
        "--size",
        "32",
        "--weights",
        weights,
    ]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result, DepthStore(tmp_path / "depth")


def test_where_nothing_tells_it_is_said_and_kept(tmp_path, tensors):
    torch.save(tensors, tmp_path / "last.pth")
    result, store = annotated(tmp_path, tmp_path / "last.pth")
    assert "nothing says which network" in result.stderr
    assert store.spec.place["weights"].startswith("unknown")
    looked = CliRunner().invoke(app, ["inspect", str(store.path)]).stdout
    assert re.search(r"weights +unknown: nothing in the file says", looked)


def test_where_the_file_tells_that_is_kept_and_the_fingerprint_is_of_the_tensors(tmp_path, tensors):
    save_network(fresh_network(TINY, seed=5), tmp_path / "mine.safetensors")
    result, store = annotated(tmp_path, tmp_path / "mine.safetensors")
    assert "nothing says" not in result.stderr
    assert store.spec.place["weights"] == "tiny, by its metadata"
    torch.save(
        load_network(TINY, tmp_path / "mine.safetensors").state_dict(), tmp_path / "last.pth"
    )
    other, again = annotated(tmp_path, tmp_path / "last.pth")
    assert "0 parts made, 1 kept" in other.stdout
    assert again.fingerprint == store.fingerprint


def test_a_store_made_before_origins_were_kept_says_so_and_goes_on(tmp_path):
    save_network(fresh_network(TINY, seed=5), tmp_path / "mine.safetensors")
    _, store = annotated(tmp_path, tmp_path / "mine.safetensors")
    locations = {name: path for name, path in store.spec.place.items() if name != "weights"}
    before = replace(store.spec, place=locations)
    (store.path / "zarr.json").write_text(group_json(before.attributes()))
    looked = CliRunner().invoke(app, ["inspect", str(store.path)]).stdout
    assert re.search(r"weights +not recorded", looked)
    again, store = annotated(tmp_path, tmp_path / "mine.safetensors")
    assert "0 parts made, 1 kept" in again.stdout
    assert store.spec.place["weights"] == "tiny, by its metadata"
