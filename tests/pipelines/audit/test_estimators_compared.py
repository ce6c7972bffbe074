"""Several estimators side by side from the command line, on depth that is wrong in known ways."""

import json
import shutil

import numpy as np
import pytest
import torch

from depthtok.data import DepthBlock, DepthClip, DepthKind, EstimatorSpec
from depthtok.errors import ConfigError
from depthtok.stores.spec import SPEED
from depthtok.testing import make_rlds, tree_digest
from pipelines.annotate.speed import Speed, recorded
from pipelines.audit.candidates import doubt_about
from pipelines.audit.comparison import FIGURES
from pipelines.depth.origin import WeightsOrigin
from pipelines.depth.registry import ESTIMATORS, EstimatorEntry
from tests.commands.trainings import call

SIZE = 32


class Spoiled:
    """True disparity with noise of this size, turned, or of the image alone."""

    device, degraded = "cpu", False

    def __init__(self, name, function):
        self.spec = EstimatorSpec(name, DepthKind.DISPARITY, f"hash of {name}", licence="MIT")
        self.origin = WeightsOrigin((name,), "a test")
        self.function = function

    def estimate(self, clips):
        for number, clip in enumerate(clips):
            depth = self.function(clip, np.random.default_rng(len(str(clip.key))))
            yield DepthBlock(number, DepthClip.of(depth, DepthKind.DISPARITY))


def noisy(size):
    def function(clip, rng):
        disparity = 1 / clip.true_depth(0, len(clip))
        return disparity * np.exp(rng.normal(0, size, disparity.shape))

    return function


def mirrored(clip, rng):
    return 1 / clip.true_depth(0, len(clip))[:, :, ::-1]


def grey(clip, rng):
    return clip.read(0, len(clip))[..., 0].astype(np.float32)


def grey_and_left(clip, rng):
    pixels = grey(clip, rng)
    return pixels + 60 * np.linspace(-1, 1, pixels.shape[2], dtype=np.float32) ** 3 + 60


KINDS = {
    "good": noisy(0.02),
    "poor": noisy(0.1),
    "mirrored": mirrored,
    "unknown": noisy(0.01),
    "grey": grey,
    "grey-left": grey_and_left,
}


@pytest.fixture(scope="module", autouse=True)
def estimators():
    """The spoiled estimators are in the registry while these tests run."""
    torch.set_num_threads(1)

    def entry(name, function):
        estimator = Spoiled(name, function)
        if name == "unknown":
            estimator.origin = WeightsOrigin()
        return EstimatorEntry(
            name, DepthKind.DISPARITY, "MIT", "", 0, lambda weights, run, device: estimator
        )

    with pytest.MonkeyPatch.context() as patch:
        for name, function in KINDS.items():
            patch.setitem(ESTIMATORS, name, entry(name, function))
        yield


@pytest.fixture(scope="module")
def sets(tmp_path_factory, estimators):
    """Two data sets, each with its truth and the estimates of all."""
    root = tmp_path_factory.mktemp("compared")
    for name, seed in (("libero_sim_depth", 0), ("libero_sample", 3)):
        rlds = make_rlds(root / name / "rlds", steps=4, name=name, seed=seed, shards=1)
        call("convert", rlds, "--out", root / name / "episodes")
        for kind in ("dataset", *KINDS, "tiny") if not seed else ("dataset", "good", "poor"):
            settings = ["--set", "input_size=28"] if kind == "tiny" else []
            call(
                "annotate",
                root / name / "episodes",
                "--estimator",
                kind,
                "--size",
                SIZE,
                "--out",
                root / name / kind,
                *settings,
            )
    return root


def compare(root, names, out, *settings, sets=("libero_sim_depth",), code=0):
    given = [w for s in sets for n in names for w in ("--estimated", root / s / n)]
    truth = [w for s in sets for w in ("--truth", root / s / "dataset")]
    return json.loads(
        call("audit-depth", *given, *truth, "--out", out, *settings, "--json", code=code)
    )


def test_the_better_one_is_recommended_with_its_figures(sets, book, tmp_path):
    both = ("libero_sim_depth", "libero_sample")
    told = compare(sets, ["poor", "good"], tmp_path / "out", "--codebook", book, sets=both)
    good, poor = told["estimators"]
    assert (good["name"], poor["name"], told["clips"]) == ("good", "poor", 24)
    assert told["choice"]["best"] == ["good"]
    assert "Its AbsRel is the smallest" in told["choice"]["reason"]
    assert set(good["figures"]) == set(FIGURES)
    assert list(good["data_sets"]) == [f"{s}, {c}" for s in both for c in ("image", "wrist_image")]
    assert good["figures"]["abs_rel"]["low"] < good["figures"]["abs_rel"]["mean"] < 0.03
    assert good["figures"]["codes_equal"]["mean"] > poor["figures"]["codes_equal"]["mean"]
    assert good["figures"]["code_flips"]["mean"] < poor["figures"]["code_flips"]["mean"]
    assert 0 < told["codes_of_truth_flip"]["mean"] < 0.1  # boxes move beside static cells
    assert good["figures"]["tae"] is None  # the made data have no poses
    assert (good["licence"], good["device"], good["doubt"]) == ("MIT", "cpu", "")
    assert good["frames_per_s"] > 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Recommended: good." in page
    assert "no poses" in page
    assert page.count("data:image/webp") == 2 * 2 * 2 * 3  # sets, cameras, clips, columns
    assert "://" not in page.replace("http://www.w3.org", "")


def test_figures_are_those_of_each_store_alone(sets, tmp_path):
    told = compare(sets, ["good", "poor"], tmp_path / "both")
    for row in told["estimators"]:
        store = sets / "libero_sim_depth" / row["name"]
        alone = json.loads(
            call(
                "audit-depth",
                "--estimated",
                store,
                "--truth",
                sets / "libero_sim_depth" / "dataset",
                "--out",
                tmp_path / "one",
                "--json",
                code=0,
            )
        )
        for figure in ("abs_rel", "delta1", "edges", "flicker", "gripper"):
            values = [clip[figure] for clip in alone["clips"] if clip[figure] is not None]
            mean = row["figures"][figure] and row["figures"][figure]["mean"]
            assert mean == (pytest.approx(np.mean(values)) if values else None)
        assert len(row["wrong"]) == sum(len(camera["wrong"]) for camera in alone["cameras"])


def test_what_is_wrong_is_named_for_each(sets, tmp_path):
    told = compare(sets, ["mirrored", "good", "poor"], tmp_path, code=1)
    wrong = {row["name"]: row["wrong"] for row in told["estimators"]}
    assert wrong["good"] == []
    assert all("mirrored left to right" in text for text in wrong["mirrored"])
    assert told["choice"]["best"] == ["good"]
    assert "depth that is wrong" in told["choice"]["excluded"]["mirrored"]


def test_nothing_is_recommended_on_demo_or_unknown_weights(sets, tmp_path):
    told = compare(sets, ["unknown", "good", "tiny"], tmp_path, code=1)
    assert told["choice"]["best"] == []
    assert "good has nothing to be compared with" in told["choice"]["withheld"]
    doubts = {row["name"]: row["doubt"] for row in told["estimators"]}
    assert doubts == {
        "good": "",
        "tiny": "a demo's weights",
        "unknown": "weights of unknown origin, perhaps random",
    }
    text = call(
        "audit-depth",
        "--estimated",
        sets / "libero_sim_depth" / "good",
        "--estimated",
        sets / "libero_sim_depth" / "tiny",
        "--truth",
        sets / "libero_sim_depth" / "dataset",
        "--out",
        tmp_path,
        code=1,
    )
    assert "No recommendation: good has nothing to be compared with" in text


@pytest.mark.parametrize(
    ("name", "digest", "origin", "doubt"),
    [
        ("dataset", "", "", ""),
        ("vits", "d1", "vits, by the hash of video_depth_anything_vits.pth", ""),
        (
            "vits",
            "d1",
            "unknown: nothing in the file says which network it is of",
            "perhaps random",
        ),
        ("vits", "d1", "", "nothing records"),
        ("da3-small", "d1", "da3-small, by the names and shapes of its tensors", "only the shapes"),
        ("da3-small", "d1", "https://host/a/b@c0ffee model.safetensors sha256=ab", ""),
        ("hf:owner/model", "d1", "", ""),
        ("hf:folder", "d1", "", "nothing records"),
    ],
)
def test_weights_are_doubted_unless_something_says_what_they_are(name, digest, origin, doubt):
    reason = doubt_about(name, digest, origin)
    assert doubt in reason
    assert bool(reason) == bool(doubt)


def test_stores_and_truths_need_their_partners(sets, tmp_path):
    one, other = sets / "libero_sim_depth", sets / "libero_sample"
    cases = [
        (
            [
                "--estimated",
                one / "good",
                "--estimated",
                other / "good",
                "--truth",
                one / "dataset",
            ],
            "no --truth is of the data set of",
        ),
        (
            ["--estimated", one / "good", "--truth", one / "dataset", "--truth", other / "dataset"],
            "no --estimated is of the data set of",
        ),
        (
            [
                "--estimated",
                one / "good",
                "--estimated",
                one / "poor",
                "--truth",
                one / "dataset",
                "--truth",
                one / "dataset",
            ],
            "are all truth of",
        ),
        (["--estimated", one / "good"], "--truth is not given"),
        (["--truth", one / "dataset"], "--estimated is not given"),
        ([one / "episodes", "--truth", one / "dataset"], "hold estimators against themselves"),
        (["--estimator", "grey"], "hold estimators against themselves"),
    ]
    for given, problem in cases:
        with pytest.raises(ConfigError, match=problem):
            call("audit-depth", *given, "--out", tmp_path)


def test_two_stores_of_one_estimator_are_told_apart_by_their_names(sets, tmp_path):
    again = sets / "libero_sim_depth" / "good-again"
    if not again.exists():
        shutil.copytree(sets / "libero_sim_depth" / "good", again)
        (again / SPEED).unlink()
    told = compare(sets, ["good", "good-again"], tmp_path)
    rows = {row["name"]: row for row in told["estimators"]}
    assert set(rows) == {"good (good)", "good (good-again)"}
    assert told["choice"]["best"] == ["good (good)", "good (good-again)"]
    assert "No difference in AbsRel that the clips carry" in told["choice"]["reason"]
    assert rows["good (good-again)"]["frames_per_s"] is None
    assert "not recorded" in (tmp_path / "report.html").read_text()


def test_clips_that_one_lacks_are_left_out_for_all(sets, tmp_path):
    only = tmp_path / "front"
    call(
        "annotate",
        sets / "libero_sim_depth" / "episodes",
        "--estimator",
        "poor",
        "--size",
        SIZE,
        "--camera",
        "image",
        "--out",
        only,
    )
    told = json.loads(
        call(
            "audit-depth",
            "--estimated",
            only,
            "--estimated",
            sets / "libero_sim_depth" / "good",
            "--truth",
            sets / "libero_sim_depth" / "dataset",
            "--out",
            tmp_path,
            "--json",
        )
    )
    assert told["clips"] == 6
    assert told["left_out"] == ["6 clips that poor has no depth of are left out for all"]
    assert [list(row["data_sets"]) for row in told["estimators"]] == [
        ["libero_sim_depth, image"]
    ] * 2


def test_a_truth_in_units_of_its_own_gives_the_same_figures(sets, tmp_path):
    """Every other episode is in another unit, one of which no robot could see as metres."""

    def edit(number, values):
        for camera in ("", "wrist_"):
            depth = values[f"steps/observation/{camera}depth"]
            scaled = depth.astype(np.int64) * (12 if number % 2 else 1)
            values[f"steps/observation/{camera}depth"] = scaled.astype(np.uint16)

    rlds = make_rlds(tmp_path / "rlds", steps=4, shards=1, edit=edit)
    call("convert", rlds, "--out", tmp_path / "episodes")
    call(
        "annotate",
        tmp_path / "episodes",
        "--estimator",
        "dataset",
        "--size",
        SIZE,
        "--out",
        tmp_path / "odd",
    )
    right = compare(sets, ["good", "dataset"], tmp_path / "a")
    stores = [
        "--estimated",
        sets / "libero_sim_depth" / "good",
        "--estimated",
        sets / "libero_sim_depth" / "dataset",
        "--truth",
        tmp_path / "odd",
    ]
    out = ["--out", tmp_path / "b", "--json"]
    odd = json.loads(call("audit-depth", *stores, "--any-unit", *out))
    assert odd["any_unit"]
    for a, b in zip(right["estimators"], odd["estimators"], strict=True):
        assert (a["name"], b["wrong"], b["notes"]) == (b["name"], [], [])
        for figure in ("abs_rel", "delta1", "edges", "flicker"):
            means = [row["figures"][figure]["mean"] for row in (a, b)]
            assert means[1] == pytest.approx(means[0], rel=1e-3, abs=1e-6)
    told = json.loads(call("audit-depth", *stores, *out, code=1))
    wrong = {row["name"]: row["wrong"] for row in told["estimators"]}
    assert any("estimated depth is 0.083" in text for text in wrong["dataset"])
    assert any("not within the 0.05 to 20 m" in text for text in wrong["good"])


def test_speed_is_beside_the_store_and_no_part_of_it(sets, tmp_path):
    store = tmp_path / "good"
    shutil.copytree(sets / "libero_sim_depth" / "good", store)
    speed = recorded(store)
    assert (speed.frames, speed.device, speed.workers) == (6 * 4 * 2, "cpu", 0)
    assert speed.peak_bytes > 50e6
    digest, written = tree_digest(store), (store / SPEED).stat().st_mtime_ns
    assert SPEED not in digest
    again = [
        "annotate",
        sets / "libero_sim_depth" / "episodes",
        "--estimator",
        "good",
        "--size",
        SIZE,
        "--out",
        store,
    ]
    call(*again)  # makes nothing
    assert (store / SPEED).stat().st_mtime_ns == written
    (store / SPEED).unlink()
    assert recorded(store) is None
    assert tree_digest(store) == digest
    call("verify", store)
    assert Speed(30, 2.0, "cpu", 0, None).frames_per_s == 15


def test_without_truth_estimators_are_held_against_themselves(sets, tmp_path):
    """One is a function of each pixel; the other adds what the mirror turns over."""
    words = [
        "audit-depth",
        sets / "libero_sample" / "episodes",
        "--estimator",
        "grey-left",
        "--estimator",
        "grey",
        "--clips",
        10,
        "--frames",
        3,
        "--out",
        tmp_path,
    ]
    told = json.loads(call(*words, "--json"))
    grey, left = told["estimators"]
    assert (grey["name"], left["name"], len(grey["clips"])) == ("grey", "grey-left", 10)
    assert grey["figures"]["mirror"]["mean"] == pytest.approx(0, abs=1e-3)
    assert left["figures"]["mirror"]["mean"] > 0.1
    assert told["choice"]["best"] == ["grey"]
    assert "Consistency is no accuracy" in told["caveat"]
    assert {clip["camera"] for clip in grey["clips"]} == {"image", "wrist_image"}
    text = call(*words)
    assert "Recommended: grey. Its disagreement with its mirror image is the smallest" in text
    page = (tmp_path / "report.html").read_text()
    assert "Consistency is no accuracy" in page
    demo = [*words[:2], "--estimator", "tiny", "--clips", 1, "--frames", 2, "--out", tmp_path]
    assert "one estimator alone leaves nothing to choose" in call(*demo)
    with pytest.raises(ConfigError, match="1 weights for 2 estimators"):
        call(*words, "--weights", tmp_path / "w.safetensors")
