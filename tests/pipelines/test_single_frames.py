"""Estimators of single frames, and relative depth, through every stage."""

from dataclasses import replace

import numpy as np
import pytest

from depthtok.config import RunOptions
from depthtok.data import DepthKind
from depthtok.errors import ConfigError, DepthKindError, StaleStore
from depthtok.stores.codebook import Codebook
from depthtok.stores.codes import CodeStore
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.verify import verify_store
from depthtok.testing import make_rlds, tree_digest
from pipelines.annotate.focal import require_focal
from pipelines.annotate.fused import FusedStage
from pipelines.annotate.stage import AnnotateStage
from pipelines.audit.audit import audit
from pipelines.audit.pairs import paired
from pipelines.config import AnnotateConfig, TokenizeConfig
from pipelines.decode import DecodeStage
from pipelines.depth import registry
from pipelines.depth.da3.config import tiny
from pipelines.depth.learning.choice import trainable
from pipelines.depth.single_frames.config import FrameConfig
from pipelines.inspect.summary import inspect
from pipelines.run import run
from pipelines.tokenize import TokenizeStage
from tests.pipelines.depth.da3.test_weights import saved
from vqvae.data.clips import ClipSource
from vqvae.data.ranges import require_one_kind
from vqvae.quality.gate import failed_limits

SIZE = 32


@pytest.fixture
def stage(whole, tmp_path, monkeypatch):
    """A function that makes an annotation by a tiny network, mono or metric."""
    weights = tmp_path / "tiny.safetensors"
    saved(tiny(), weights)
    for config in (tiny(), replace(tiny(metric=True), name="da3-tiny-metric")):
        monkeypatch.setitem(registry.ESTIMATORS, config.name, registry._da3(config))
    episodes = EpisodeStore(whole.root / "convert")

    def build(out, estimator="da3-tiny", **settings):
        config = AnnotateConfig(estimator=estimator, size=SIZE, input_size=28, **settings)
        return AnnotateStage(episodes, tmp_path / out, config, "cpu", weights=weights)

    return build


def tokenized(whole, depth, out):
    book = Codebook.load(whole.book)
    run(TokenizeStage(depth, book, out, TokenizeConfig(), "cpu", {}), RunOptions())
    return CodeStore(out)


def test_relative_depth_goes_through_every_stage(whole, stage, tmp_path):
    assert run(stage("depth", shift=0.5), RunOptions()).exit_code == 0
    depth = DepthStore(tmp_path / "depth")
    assert (depth.kind, depth.shift) == (DepthKind.RELATIVE_DEPTH, 0.5)
    assert depth.about["shift"] == 0.5
    assert list(verify_store(depth.path)) == []
    clip = next(depth.clips())
    read = clip.read()
    disparity = read.to_disparity()
    np.testing.assert_array_equal(disparity.values, 1 / (read.values + np.float32(0.5)))
    assert clip.disparity_quantiles[-1] == pytest.approx(float(disparity.values.max()), rel=1e-6)
    codes = tokenized(whole, depth, tmp_path / "codes")
    assert (codes.about["depth_kind"], codes.about["shift"]) == ("relative_depth", 0.5)
    low, high = codes.grid_of(clip.key, clip.camera).range
    assert low == pytest.approx(clip.disparity_quantiles[1])
    assert high == pytest.approx(clip.disparity_quantiles[-2])
    book = Codebook.load(whole.book)
    assert run(DecodeStage(codes, book, tmp_path / "back", "cpu"), RunOptions()).exit_code == 0
    assert DepthStore(tmp_path / "back").kind is DepthKind.DISPARITY
    facts = inspect(depth.path).facts
    assert facts["kind"] == "relative depth; as disparity 1 / (z + 0.5)"
    truth = DepthStore(whole.root / "annotate")
    figures = audit(next(iter(paired(depth, truth))))
    assert figures.fit.in_depth
    assert np.isfinite(figures.abs_rel)


def test_codes_of_relative_depth_are_the_same_in_one_worker(whole, stage, tmp_path):
    run(stage("depth", shift=0.5), RunOptions())
    two = tokenized(whole, DepthStore(tmp_path / "depth"), tmp_path / "two")
    book = Codebook.load(whole.book)
    fused = FusedStage(
        stage("never", shift=0.5), book, tmp_path / "one", TokenizeConfig(), {"failures": []}
    )
    run(fused, RunOptions())
    one = CodeStore(tmp_path / "one")
    assert [p.manifest["files"] for p in one.parts()] == [p.manifest["files"] for p in two.parts()]
    assert one.about["shift"] == 0.5


def test_another_shift_is_another_store(stage, tmp_path):
    first = stage("depth").spec
    assert dict(stage("depth").estimator.settings)["shift"] == "0.0"
    assert stage("depth", shift=0.5).spec.fingerprint != first.fingerprint
    run(stage("depth"), RunOptions())
    with pytest.raises(StaleStore):
        run(stage("depth", shift=0.5), RunOptions())


def test_shifts_and_kinds_do_not_mix_in_one_training(whole, stage, tmp_path):
    run(stage("a"), RunOptions())
    run(stage("b", shift=0.5), RunOptions())

    paths = tmp_path / "a", tmp_path / "b", whole.root / "annotate"
    a, b, true = (ClipSource(str(path), "", list(DepthStore(path).clips())) for path in paths)
    assert require_one_kind([a, a]) is DepthKind.RELATIVE_DEPTH
    for other in (b, true):
        with pytest.raises(DepthKindError, match="relative_depth with shift 0"):
            require_one_kind([a, other])


def test_the_gate_judges_a_codebook_of_relative_depth():
    figures = {
        "codes": {"used": 200, "perplexity": 90},
        "disparity": {"l1": 0.01, "edge_f1": 0.5},
        "kind": "relative_depth",
    }
    assert failed_limits(figures) == []
    assert "disparity.l1" in failed_limits(figures | {"disparity": {"l1": 0.2, "edge_f1": 0.5}})[0]


def test_jobs_and_company_do_not_reach_the_bytes(stage, tmp_path):
    run(stage("whole", steady="causal"), RunOptions())
    for job in ("2/2", "1/2"):
        run(stage("jobs", steady="causal"), RunOptions(shard=job))
    one, two = (tree_digest(tmp_path / name) for name in ("whole", "jobs"))
    parts = {name: digest for name, digest in one.items() if "/c/" in name}
    assert parts
    assert parts == {name: digest for name, digest in two.items() if "/c/" in name}


@pytest.mark.parametrize("mode", ["causal", "clip"])
def test_flicker_before_and_after_is_recorded(stage, tmp_path, mode):
    run(stage("depth", steady=mode), RunOptions())
    depth = DepthStore(tmp_path / "depth")
    records = [part.meta["steadied"] for part in depth.parts()]
    assert {record["mode"] for record in records} == {mode}
    # Each of the six episodes has five steps and two cameras, so four pairs of frames each.
    assert sum(record["clips"] for record in records) == 12
    assert sum(record["pairs"] for record in records) == 48
    assert all(record["flicker_after"] >= 0 for record in records)
    assert mode in inspect(depth.path).facts["flicker"]
    assert dict(depth.spec.what["estimator"]["settings"])["steady"] == mode


def test_what_a_part_records_of_it_is_of_that_part_alone(stage, over, tmp_path):
    """The first part has clips of one frame, which have no flicker."""
    path = over(make_rlds(tmp_path / "rlds", steps=(1, 3), shards=2, size=32))
    path.run("convert")
    episodes, records = EpisodeStore(path.root / "convert"), []
    for out, jobs in (("whole", ("1/1",)), ("jobs", ("2/2", "1/2"))):
        for job in jobs:
            made = replace(stage(out, steady="causal"), episodes=episodes)
            run(made, RunOptions(shard=job))
        records.append([part.meta for part in DepthStore(tmp_path / out).parts()])
    assert records[0] == records[1]
    assert records[0][1]["steadied"]["clips"] == 2


def test_metres_come_of_the_data_sets_own_focal_length(stage, tmp_path):
    run(stage("relative"), RunOptions())
    run(stage("metres", "da3-tiny-metric"), RunOptions())
    relative, metres = (next(DepthStore(tmp_path / n).clips()) for n in ("relative", "metres"))
    assert metres.store.kind is DepthKind.METRES
    camera = EpisodeStore(metres.store.spec.source("episodes")).camera(metres.camera)
    assert camera.height == camera.width
    # The made data's focal length is the frame's side, so that of the 28 px input is 28.
    ratio = metres.read().values / relative.read().values
    np.testing.assert_allclose(ratio, 28 / 300, rtol=2e-3)


def test_codes_of_metres_by_focal_length_are_the_same_in_one_worker(whole, stage, tmp_path):
    """The data's focal length is 32 px of the frame, 28 of the input; the stated is twice it."""
    book, metric = Codebook.load(whole.book), "da3-tiny-metric"

    def fused(out, **settings):
        annotation, chosen = stage("never", metric, **settings), TokenizeConfig()
        stages = FusedStage(annotation, book, tmp_path / out, chosen, {"failures": []})
        run(stages, RunOptions())
        return CodeStore(tmp_path / out)

    run(stage("depth", metric), RunOptions())
    run(stage("relative"), RunOptions())
    two, one = tokenized(whole, DepthStore(tmp_path / "depth"), tmp_path / "two"), fused("one")
    files = [[part.manifest["files"] for part in store.parts()] for store in (one, two)]
    assert files[0] == files[1]
    assert one.about["depth_kind"] == "metres"
    assert not (tmp_path / "never").exists()
    # Disparity of metres is 1 / (z f / 300), z what the network gives.
    clips = list(DepthStore(tmp_path / "relative").clips())
    ends = np.array([np.array(clip.disparity_quantiles)[[1, -2]] for clip in clips])
    stores = {28: one, 56: fused("stated", focal_px=64.0)}
    for focal, codes in stores.items():
        ranges = [codes.grid_of(clip.key, clip.camera).range for clip in clips]
        np.testing.assert_allclose(ranges, ends * 300 / focal, rtol=2e-3)


class WithoutIntrinsics(EpisodeStore):
    def table(self, part, name):
        table = super().table(part, name)
        return np.full_like(table, np.nan) if name == "intrinsics" else table


def test_fused_metres_without_a_focal_length_are_refused_before_anything_is_written(
    whole, stage, tmp_path
):
    annotation = stage("never", "da3-tiny-metric")
    annotation = replace(annotation, episodes=WithoutIntrinsics(whole.root / "convert"))
    book, out = Codebook.load(whole.book), tmp_path / "codes"
    with pytest.raises(ConfigError, match="focal length of camera 'image'"):
        run(FusedStage(annotation, book, out, TokenizeConfig(), {"failures": []}), RunOptions())
    assert not out.exists()


def test_without_a_focal_length_metres_are_refused(stage, whole):
    with pytest.raises(ConfigError, match="focal length of camera 'image'") as caught:
        require_focal(WithoutIntrinsics(whole.root / "convert"), ["image"])
    assert "focal_px" in caught.value.remedy
    with_focal = stage("metres", "da3-tiny-metric", focal_px=60.0)
    assert dict(with_focal.estimator.settings)["focal_px"] == "60.0"


@pytest.mark.parametrize(
    ("estimator", "settings"),
    [
        ("tiny", {"sky": True}),
        ("tiny", {"steady": "clip"}),
        ("da3-tiny", {"focal_px": 60.0}),
        ("da3-tiny", {"kind": "metres"}),
        ("da3-tiny-metric", {"shift": 1.0}),
        ("da3-tiny", {"compile": True}),
        ("da3-small", {"sky": True}),
    ],
)
def test_settings_that_an_estimator_does_not_take_are_refused(stage, estimator, settings):
    (name,) = settings
    with pytest.raises(ConfigError, match=f"does not take `{name}`"):
        stage("depth", estimator, **settings).load_estimator()


@pytest.mark.parametrize(
    "settings", [{"shift": -1.0}, {"kind": "feet"}, {"steady": "very"}, {"focal_px": -2.0}]
)
def test_settings_without_meaning_are_refused(settings):
    (name,) = settings
    with pytest.raises(ConfigError, match=name):
        AnnotateConfig(estimator="da3-small", **settings)
    with pytest.raises(ConfigError, match=name):
        AnnotateConfig(estimator="dataset", **settings)


def test_what_cannot_be_fine_tuned_says_so():
    with pytest.raises(ConfigError, match="'dataset' cannot be fine-tuned") as caught:
        trainable("dataset")
    assert "vits" in caught.value.remedy
    with pytest.raises(ConfigError, match="there is no estimator 'da3-smal'"):
        trainable("da3-smal")
    with pytest.raises(ConfigError, match="'da3-small' does not take `focal_px`"):
        trainable("da3-small", frame=FrameConfig(focal_px=60.0))
