"""Estimators of every family against themselves: settings, weights, focal lengths, broken clips;
and relative depth beside metres and disparity in one table."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from depthtok.data import DepthBlock, DepthClip, DepthKind, EstimatorSpec
from depthtok.errors import ConfigError, SourceError
from depthtok.testing import make_rlds
from pipelines.audit.settings import AuditConfig
from pipelines.depth import registry
from pipelines.depth.da3.config import tiny
from pipelines.depth.origin import WeightsOrigin
from pipelines.depth.registry import ESTIMATORS, EstimatorEntry
from tests.commands.trainings import call
from tests.pipelines.depth.da3.test_weights import saved

MONO, METRIC = tiny(), replace(tiny(metric=True), name="da3-tiny-metric")


class Unsaid:
    """Red, as the kind that is stated; the clips of one episode fail, if any is named."""

    device, degraded = "cpu", False

    def __init__(self, name, run, broken):
        self.kind, self.broken = DepthKind(run.frame.kind or "disparity"), broken
        self.spec = EstimatorSpec(name, self.kind, f"hash of {name}", licence="MIT")
        self.origin = WeightsOrigin((name,), "a test")

    def estimate(self, clips):
        for number, clip in enumerate(clips):
            red = clip.read(0, len(clip))[..., 0].astype(np.float32) + 1
            broken = clip.key.index == self.broken
            error = "it is broken" if broken else ""
            yield DepthBlock(number, None if broken else DepthClip.of(red, self.kind), error)


@pytest.fixture(scope="module", autouse=True)
def estimators():
    torch.set_num_threads(1)

    def entry(name, broken=None, takes=("kind",)):
        return EstimatorEntry(
            name,
            None if takes else DepthKind.DISPARITY,
            "MIT",
            "",
            0,
            lambda weights, run, device: Unsaid(name, run, broken),
            takes,
        )

    with pytest.MonkeyPatch.context() as patch:
        for one in (entry("a"), entry("b"), entry("says", takes=()), entry("breaks", 2)):
            patch.setitem(ESTIMATORS, one.name, one)
        for config in (MONO, METRIC):
            patch.setitem(ESTIMATORS, config.name, registry._da3(config))
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory, estimators):
    """Episodes with their truth, and the weights of a tiny network."""
    root = tmp_path_factory.mktemp("settings")
    call("convert", make_rlds(root / "rlds", steps=3, shards=1), "--out", root / "episodes")
    saved(MONO, root / "weights.safetensors")
    return root


def against_itself(root, out, *words):
    names = ["--clips", 6, "--frames", 2, "--out", out, "--json"]
    return json.loads(call("audit-depth", root / "episodes", *words, *names))


def test_each_setting_goes_to_those_that_take_it():
    config = AuditConfig(kind="metres", focal_px=60.0, shift=0.5, steady="clip")
    chosen = config.of(["a", MONO.name, METRIC.name, "says"])
    assert [settings for _, settings in chosen] == [
        {"kind": "metres"},
        {"shift": 0.5, "steady": "clip"},
        {"focal_px": 60.0, "steady": "clip"},
        {},
    ]
    assert (chosen[2][0].estimator, chosen[2][0].focal_px) == (METRIC.name, 60.0)
    named = AuditConfig(kind="a=metres, b=disparity").of(["b", "a", "says"])
    assert [settings for _, settings in named] == [{"kind": "disparity"}, {"kind": "metres"}, {}]


@pytest.mark.parametrize(
    ("config", "names", "problem"),
    [
        ({"focal_px": 60.0}, ["a", MONO.name], "none of a, da3-tiny takes `focal_px`"),
        ({"kind": "metres"}, ["says"], "none of says takes `kind`"),
        ({"kind": "c=metres"}, ["a"], "'c' is no --estimator of this audit"),
        ({"kind": "feet"}, ["a"], "kind = 'feet' is not known"),
        ({"pose": "off"}, ["tiny"], "none of tiny takes `pose`"),
        ({"shift": -1.0}, [MONO.name], "shift"),
    ],
)
def test_settings_that_nobody_takes_or_that_mean_nothing_are_refused(config, names, problem):
    with pytest.raises(ConfigError, match=problem):
        AuditConfig(**config).of(names)


def test_settings_change_what_is_run_and_are_shown(root, tmp_path):
    """As metres, disparity is the reciprocal: another relief, another share of a plane."""
    names = ["--estimator", "a", "--estimator", "b"]
    told = against_itself(root, tmp_path, *names, "--set", "kind=a=metres")
    rows = {row["name"]: row for row in told["estimators"]}
    assert (rows["a"]["settings"], rows["b"]["settings"]) == ({"kind": "metres"}, {})
    assert rows["a"]["figures"]["plane"] != rows["b"]["figures"]["plane"]
    assert "a (kind=metres)" in (tmp_path / "report.html").read_text()
    stores = ["--estimated", root, "--truth", root, "--out", tmp_path]
    with pytest.raises(ConfigError, match="stores are as they are"):
        call("audit-depth", *stores, "--set", "kind=metres")


def test_metric_depth_has_its_focal_length_from_the_data_or_by_a_setting(
    root, tmp_path, monkeypatch
):
    """The scale of metres has no effect on consistency: all three agree."""
    weights = [root / "weights.safetensors"] * 2
    words = ["--estimator", METRIC.name, "--estimator", MONO.name]
    words += [word for path in weights for word in ("--weights", path)]
    told = against_itself(root, tmp_path / "data", *words)
    stated = against_itself(root, tmp_path / "stated", *words, "--set", "focal_px=60")
    for figure in ("mirror", "crop", "scale"):
        means = [row["figures"][figure]["mean"] for t in (told, stated) for row in t["estimators"]]
        np.testing.assert_allclose(means, means[0], atol=2e-4)
    assert told["choice"]["best"] == []  # nothing says what the weights are
    monkeypatch.setattr(
        "pipelines.audit.consistency_run.require_focal",
        lambda *_: (_ for _ in ()).throw(ConfigError("the focal length is not known")),
    )
    with pytest.raises(ConfigError, match="focal length"):
        against_itself(root, tmp_path / "none", *words)
    against_itself(root, tmp_path / "none", *words, "--set", "focal_px=60")


def test_weights_can_be_given_for_some(root, tmp_path):
    words = ["--estimator", "a", "--weights", "-", "--estimator", MONO.name]
    told = against_itself(root, tmp_path, *words, "--weights", root / "weights.safetensors")
    assert {row["name"] for row in told["estimators"]} == {"a", MONO.name}
    with pytest.raises(ConfigError, match="1 weights for 2") as caught:
        against_itself(root, tmp_path, *words)
    assert "--weights -" in caught.value.remedy


def test_a_clip_that_one_cannot_do_is_left_out_for_all(root, tmp_path):
    told = against_itself(root, tmp_path, "--estimator", "a", "--estimator", "breaks")
    views = [
        [(int(c["key"][-5:]), c["camera"]) for c in row["clips"]] for row in told["estimators"]
    ]
    assert views[0] == views[1]
    assert 0 < len(views[0]) < 6
    assert all(index != 2 for index, _ in views[0])
    alone = ["--estimator", "breaks", "--clips", 1]
    first = registry.ESTIMATORS["breaks"]
    with pytest.MonkeyPatch.context() as patch:
        broken = replace(first, build=lambda weights, run, device: Unsaid("breaks", run, 0))
        patch.setitem(ESTIMATORS, "breaks", broken)
        with pytest.raises(SourceError, match="no clip could be done by breaks"):
            call("audit-depth", root / "episodes", *alone, "--frames", 2, "--out", tmp_path)


def test_relative_depth_is_in_one_table_with_metres_and_disparity(root, tmp_path):
    """The true depth, up to a scale and a shift of z, has no error as relative depth; as metres
    its shift is one, and is said; disparity has none either way."""

    class Of:
        device, degraded = "cpu", False

        def __init__(self, name, kind, function, shift=0.0):
            settings = (("shift", repr(shift)),) if kind is DepthKind.RELATIVE_DEPTH else ()
            self.spec = EstimatorSpec(name, kind, f"hash of {name}", "float32", None, "", settings)
            self.origin, self.function, self.shift = (
                WeightsOrigin((name,), "a test"),
                function,
                shift,
            )

        def estimate(self, clips):
            for number, clip in enumerate(clips):
                values = self.function(clip.true_depth(0, len(clip)))
                yield DepthBlock(number, DepthClip.of(values, self.spec.kind, shift=self.shift))

    made = (
        Of("relative", DepthKind.RELATIVE_DEPTH, lambda z: 0.3 * z + 0.2, 0.5),
        Of("as-metres", DepthKind.METRES, lambda z: 0.3 * z + 0.2),
        Of("disparity", DepthKind.DISPARITY, lambda z: 2 / z + 1),
    )
    with pytest.MonkeyPatch.context() as patch:
        for one in made:
            entry = EstimatorEntry(one.spec.name, one.spec.kind, "", "", 0, lambda *_, one=one: one)
            patch.setitem(ESTIMATORS, one.spec.name, entry)
        names = ("dataset", *(one.spec.name for one in made))
        for name in names:
            out = ["--out", tmp_path / name, "--estimator", name, "--size", 32]
            call("annotate", root / "episodes", *out)
    stores = [w for one in made for w in ("--estimated", tmp_path / one.spec.name)]
    words = ["audit-depth", *stores, "--truth", tmp_path / "dataset", "--out", tmp_path / "audit"]
    told = json.loads(call(*words, "--json", code=1))
    rows = {row["name"]: row for row in told["estimators"]}
    assert rows["relative"]["figures"]["abs_rel"]["mean"] < 2e-3  # of float16
    assert rows["disparity"]["figures"]["abs_rel"]["mean"] < 2e-3
    assert rows["as-metres"]["figures"]["abs_rel"]["mean"] > 0.01
    assert rows["relative"]["wrong"] == rows["disparity"]["wrong"] == []
    assert rows["as-metres"]["wrong"]  # its scale
    assert set(told["choice"]["best"]) <= {"relative", "disparity"}
    assert "as-metres" in told["choice"]["excluded"]
