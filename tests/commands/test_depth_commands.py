"""finetune-vida and audit-depth from the command line, on boxes that move."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from depthtok.api.interface import read
from depthtok.cli.main import app
from depthtok.errors import ConfigError, DepthKindError, MissingParts, SourceError, StaleStore
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.filling import drop_part
from depthtok.stores.store import Store
from depthtok.testing import make_rlds
from pipelines.audit.findings import CameraAudit
from pipelines.depth.learning.course import Course
from pipelines.depth.learning.finetune import FinetuneConfig
from pipelines.depth.learning.windows import WindowFamily
from pipelines.depth.truth import held_out, true_clips
from pipelines.depth.vida.config import CONFIGS
from pipelines.inspect import pages
from tests.commands.trainings import call


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Episodes, their true depth, and what the demo network says at a tiny size."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("depth")
    rlds = make_rlds(root / "rlds", episodes=4, steps=4, shards=1)
    call("convert", rlds, "--out", root / "episodes")
    call(
        "annotate",
        root / "episodes",
        "--out",
        root / "true",
        "--estimator",
        "dataset",
        "--size",
        32,
    )
    call(
        "annotate",
        root / "episodes",
        "--out",
        root / "tiny",
        "--estimator",
        "tiny",
        "--input-size",
        28,
        "--size",
        32,
    )
    return root


FAST = ["--estimator", "tiny", "--steps", 2, "--batch", 1, "--frames", 2, "--input-size", 28]


def test_finetuning_makes_weights_that_annotate_takes(stores, tmp_path):
    out = tmp_path / "mine.safetensors"
    printed = json.loads(
        call("finetune-vida", stores / "true", "--out", out, *FAST, "--held-out", 0.3, "--json")
    )
    assert printed["training"]["settings"]["steps"] == 2
    sides = [set(printed[part]["clips"]) for part in ("training", "held_out")]
    assert sides[0]
    assert sides[1]
    assert not sides[0] & sides[1]
    figures = printed["held_out"]["figures"]
    assert {"image, this network", "image, mean map of the training clips"} <= set(figures)
    assert json.loads(out.with_suffix(".json").read_text()) == printed
    call(
        "annotate",
        stores / "episodes",
        "--out",
        tmp_path / "depth",
        "--estimator",
        "tiny",
        "--weights",
        out,
        "--input-size",
        28,
        "--size",
        32,
    )
    store = DepthStore(tmp_path / "depth")
    assert store.spec.what["estimator"]["weights"] == printed["weights_sha256"]
    before = out.read_bytes()
    said = call("finetune-vida", stores / "true", "--out", out, *FAST, "--held-out", 0.3)
    assert said.rstrip().endswith("--set input_size=28")  # what is suggested takes the same size
    assert out.read_bytes() == before  # all steps were there
    with pytest.raises(StaleStore, match="data"):
        call("finetune-vida", stores / "true", "--out", out, *FAST, "--camera", "image")


def test_a_stopped_course_goes_on_to_the_same_weights(stores, tmp_path):
    store = DepthStore(stores / "true")
    config = FinetuneConfig(steps=3, batch=1, frames=2, input_size=28)

    def course(name):
        return Course(
            WindowFamily(CONFIGS["tiny"]),
            config,
            true_clips(store),
            [],
            "d",
            tmp_path / name,
            from_scratch=True,
        )

    asked = []
    undisturbed, cut = course("a.safetensors"), course("b.safetensors")
    assert undisturbed.train("cpu", lambda report: None, lambda: False)
    assert not cut.train("cpu", asked.append, lambda: len(asked) == 1)
    assert not cut.out.exists()
    assert course("b.safetensors").train("cpu", asked.append, lambda: False)
    assert [report.step for report in asked] == [0, 1, 2]
    assert cut.out.read_bytes() == undisturbed.out.read_bytes()


def test_a_course_begun_by_the_former_rule_keeps_its_held_out_episodes(
    stores, tmp_path, monkeypatch
):
    """Seed 1 holds out another episode by the former rule than the key does."""
    from pipelines.depth import truth

    def train():
        printed = call(
            "finetune-vida",
            stores / "true",
            "--out",
            tmp_path / "x.safetensors",
            *FAST,
            "--held-out",
            0.3,
            "--seed",
            1,
            "--json",
        )
        return set(json.loads(printed)["held_out"]["clips"])

    with monkeypatch.context() as patch:
        patch.setattr(truth, "split", lambda sources, share: truth.split_before(sources, share, 1))
        former = train()
    assert train() == former
    (tmp_path / "x.checkpoint.pt").unlink()
    (tmp_path / "x.safetensors").unlink()  # else it is not overwritten
    assert train() != former


def test_clips_of_one_episode_are_on_one_side(stores):
    store = DepthStore(stores / "true")
    train, judges = held_out([(store, true_clips(store))], 0.3, [])
    assert {clip.key for clip in train}.isdisjoint({clip.key for clip in judges})
    assert len(train) + len(judges) == 8
    _, judges = held_out([(store, true_clips(store))], 0.0, ["Box 1"])
    assert {clip.instruction for clip in judges} == {"move box 1"}
    train, judges = held_out([(store, true_clips(store))], 0.0, ["Box 0", "box 1"], before=0)
    assert {clip.instruction for clip in judges} == {"move box 1"}  # as in a run begun before
    with pytest.raises(ConfigError, match="0 clips for training"):
        held_out([(store, true_clips(store))], 0.0, ["move"])


def test_a_camera_that_is_named_twice_is_refused(stores, tmp_path):
    twice = ["--camera", "image", "--camera", "image"]
    with pytest.raises(ConfigError, match="image, image"):
        call("finetune-vida", stores / "true", "--out", tmp_path / "x.safetensors", *FAST, *twice)
    with pytest.raises(ConfigError, match="image, image"):
        call(
            "audit-depth",
            "--estimated",
            stores / "true",
            "--truth",
            stores / "true",
            "--out",
            tmp_path,
            *twice,
        )


@pytest.mark.parametrize("share", [1.5, 1.0, -1.0, float("nan")])
def test_a_share_is_from_0_to_below_1(stores, share):
    store = DepthStore(stores / "true")
    with pytest.raises(ConfigError, match="`held_out` cannot be"):
        held_out([(store, true_clips(store))], share, [])


def test_estimates_are_no_truth(stores, tmp_path):
    with pytest.raises(DepthKindError, match="estimate"):
        call("finetune-vida", stores / "tiny", "--out", tmp_path / "x.safetensors", *FAST)
    with pytest.raises(DepthKindError, match="not ground-truth depth"):
        call(
            "audit-depth",
            "--estimated",
            stores / "true",
            "--truth",
            stores / "tiny",
            "--out",
            tmp_path,
        )
    with pytest.raises(ConfigError, match="safetensors"):
        call("finetune-vida", stores / "true", "--out", tmp_path / "x.pth", *FAST)


def test_an_audit_says_how_far_off_depth_is(stores, tmp_path):
    text = call(
        "audit-depth",
        "--estimated",
        stores / "true",
        "--truth",
        stores / "true",
        "--out",
        tmp_path,
        "--json",
    )
    printed = json.loads(text)
    assert len(printed["clips"]) == 8
    assert all(clip["abs_rel"] < 1e-5 for clip in printed["clips"])
    assert [(c["figures"]["gripper"] is None) for c in printed["cameras"]] == [True, True]
    page = (tmp_path / "report.html").read_text()
    assert page.count("<figure>") == 2 * 3 * 4
    assert "not there" not in page
    assert json.loads((tmp_path / "report.json").read_text())["sections"]


def test_a_network_that_saw_the_pictures_turned_fails_the_audit(stores, tmp_path, monkeypatch):
    def flipped(clip, start=0, stop=None):
        clip_read = read(clip, start, stop)
        return type(clip_read)(
            clip_read.values[:, ::-1], clip_read.valid[:, ::-1], clip_read.kind, clip_read.quantiles
        )

    from depthtok.stores.depth import StoredDepth

    read, true = StoredDepth.read, str(stores / "true")
    copy = tmp_path / "copy"
    call("annotate", stores / "episodes", "--out", copy, "--estimator", "dataset", "--size", 32)
    monkeypatch.setattr(
        StoredDepth,
        "read",
        lambda clip, *span: (read if str(clip.store.path) == true else flipped)(clip, *span),
    )
    out = call(
        "audit-depth", "--estimated", copy, "--truth", true, "--out", tmp_path / "audit", code=1
    )
    assert "WRONG" in out
    assert "upside down" in out


def test_the_gripper_is_named_by_the_schema(stores):
    classes = EpisodeStore(stores / "episodes").segmentation_classes
    assert classes.keys() == {"image"}
    assert classes["image"]["gripper"] == 2


def test_the_error_near_the_gripper_needs_its_mask(tmp_path):
    def edit(number, values):
        marks = np.zeros_like(values["steps/observation/segmentation"])
        marks[:, 8:12, 8:12] = 2
        values["steps/observation/segmentation"] = marks

    call(
        "annotate",
        make_rlds(tmp_path / "rlds", episodes=1, shards=1, edit=edit),
        "--out",
        tmp_path / "true",
        "--estimator",
        "dataset",
        "--size",
        16,
    )
    printed = json.loads(
        call(
            "audit-depth",
            "--estimated",
            tmp_path / "true",
            "--truth",
            tmp_path / "true",
            "--out",
            tmp_path / "audit",
            "--json",
        )
    )
    assert [clip["gripper"] is not None for clip in printed["clips"]] == [True, False]


def test_stores_without_a_common_episode_are_refused(stores, tmp_path):
    call(
        "annotate",
        make_rlds(tmp_path / "rlds", episodes=1, shards=1, name="libero_sample"),
        "--out",
        tmp_path / "other",
        "--estimator",
        "dataset",
        "--size",
        32,
    )
    with pytest.raises(SourceError, match="no episode is in both"):
        call(
            "audit-depth",
            "--estimated",
            tmp_path / "other",
            "--truth",
            stores / "true",
            "--out",
            tmp_path / "audit",
        )


def test_an_audit_says_what_it_leaves_out(tmp_path):
    def edit(number, values):
        if number == 0:
            depth = values["steps/observation/depth"]
            values["steps/observation/depth"] = [b"no picture"] * len(depth)

    true, out = tmp_path / "true", tmp_path / "audit"
    call(
        "annotate",
        make_rlds(tmp_path / "rlds", shards=3, edit=edit),
        "--out",
        true,
        "--estimator",
        "dataset",
        "--size",
        16,
        code=1,
    )
    audit = ["audit-depth", "--estimated", true, "--truth", true, "--out", out, "--json"]
    assert len(json.loads(call(*audit))["clips"]) == 5 * 2
    drop_part(true, Store(true).part_names[-1])
    with pytest.raises(MissingParts, match="lacks 1 of its parts"):
        call(*audit)
    result = CliRunner().invoke(app, [str(argument) for argument in [*audit, "--partial"]])
    assert result.exit_code == 0
    assert result.stderr.count("1 failed episode is left out") == 2
    assert len(json.loads(result.stdout)["clips"]) == 3 * 2


REAL = Path(__file__).parents[1] / "data" / "real" / "real_rgbd" / "1.0.0"
RGBD = """
datasets = ["real_rgbd"]
status = "unseen"
fps = 10.0
instruction = "steps/language_instruction"
gripper = "none"
[[camera]]
name = "image"
key = "steps/observation/image"
orientation = "identity"
depth_key = "steps/observation/%s"
depth_unit = "%s"
[[action]]
from = "steps/action"
take = "0:6"
dims = ["x", "y", "z", "roll", "pitch", "yaw"]
[[proprio]]
from = "steps/observation/state"
dims = ["nothing"]
"""


@pytest.fixture(scope="module")
def rgbd(tmp_path_factory):
    """What makes stores of real depth, read from a feature in a unit; and the right ones."""
    root = tmp_path_factory.mktemp("rgbd")

    def make(name, feature, unit):
        (root / f"{name}.toml").write_text(RGBD % (feature, unit))
        call("convert", REAL, "--schema", root / f"{name}.toml", "--out", root / name / "episodes")
        call(
            "annotate",
            root / name / "episodes",
            "--estimator",
            "dataset",
            "--size",
            128,
            "--out",
            root / name / "true",
        )
        return root / name

    return make, make("mm", "depth", "mm")


def audited(estimated, truth, out, code):
    return json.loads(
        call(
            "audit-depth",
            "--estimated",
            estimated,
            "--truth",
            truth,
            "--out",
            out,
            "--json",
            code=code,
        )
    )


def test_real_depth_is_its_own_equal(rgbd, tmp_path):
    _, right = rgbd
    audit = audited(right / "true", right / "true", tmp_path, 0)
    (camera,) = audit["cameras"]
    assert camera["scale"] == {"factor": 1, "low": 1, "high": 1}
    assert not camera["wrong"]
    assert not camera["weak"]
    assert [0.3 < clip["truth_m"] < 2.5 for clip in audit["clips"]] == [True] * 3


@pytest.mark.parametrize(
    ("feature", "unit", "factors", "cause"),
    [
        ("depth_native", "mm", [10, 10, 1], "0.1 mm read as mm in the estimate"),
        ("depth_native", "m/10000", [1, 1, 0.1], "mm read as 0.1 mm in the estimate"),
        ("depth", "m/5000", [0.2] * 3, "mm read as m/5000 in the estimate"),
        ("depth", "m/1024", [1000 / 1024] * 3, "mm read as m/1024 in the estimate"),
        ("depth", "m/1000", [1] * 3, None),
    ],
)
def test_the_clips_of_real_depth_that_are_in_another_unit_are_named(
    rgbd, tmp_path, feature, unit, factors, cause
):
    make, right = rgbd
    other = make(f"{feature}-{unit.replace('/', '-')}", feature, unit)
    audit = audited(other / "true", right / "true", tmp_path, 1 if cause else 0)
    factor_of = sorted((clip["key"], clip["scale"]["factor"]) for clip in audit["clips"])
    assert sorted(f for _, f in factor_of) == pytest.approx(sorted(factors), rel=1e-3)
    (camera,) = audit["cameras"]
    assert [cause in text for text in camera["wrong"]] == ([True] if cause else [])
    for key, factor in factor_of:
        assert cause is None or (key in camera["wrong"][0]) == (abs(factor - 1) > 0.001)


def test_estimators_side_by_side_on_measured_depth_of_a_unit_that_differs(rgbd, tmp_path):
    """Every clip is fitted on its own, over the pixels that the sensor gave: the depth that it was
    made of has no error, whatever its unit, and nothing is said of scale."""
    make, right = rgbd
    native = make("native", "depth_native", "mm")  # 0.1 mm in two of three episodes
    stores = ["--estimated", right / "true", "--estimated", tmp_path / "tiny"]
    words = ["--estimator", "tiny", "--set", "input_size=56", "--size", 128]
    call("annotate", right / "episodes", *words, "--out", tmp_path / "tiny")
    held = ["audit-depth", *stores, "--truth", native / "true", "--out", tmp_path / "audit"]
    told = json.loads(call(*held, "--any-unit", "--json", code=1))  # a demo's network, so small
    measured, tiny = told["estimators"]
    assert (measured["name"], tiny["name"], told["clips"]) == ("dataset", "tiny", 3)
    assert measured["figures"]["abs_rel"]["mean"] < 5e-4  # of whole millimetres
    assert tiny["figures"]["abs_rel"]["mean"] > 0.05
    assert measured["wrong"] == measured["weak"] == measured["notes"] == []
    assert not any("times" in text for row in told["estimators"] for text in row["wrong"])
    scaled = json.loads(call(*held, "--json", code=1))
    wrong = {row["name"]: row["wrong"] for row in scaled["estimators"]}
    assert any("0.1 mm read as mm" in text for text in wrong["dataset"])


def test_a_weak_network_on_real_images_fails_and_says_that_scale_is_not_testable(rgbd, tmp_path):
    _, right = rgbd
    call(
        "annotate",
        right / "episodes",
        "--estimator",
        "tiny",
        "--size",
        64,
        "--out",
        tmp_path / "tiny",
    )
    text = call(
        "audit-depth",
        "--estimated",
        tmp_path / "tiny",
        "--truth",
        right / "true",
        "--out",
        tmp_path / "audit",
        code=1,
    )
    assert "WRONG" not in text
    assert "WEAK: worse than the best plane" in text
    assert "scale is not testable: the estimate is disparity" in text
    page = (tmp_path / "audit" / "report.html").read_text()
    assert "What is weak" in page
    assert "not tested" in page


def test_a_disparity_estimate_is_held_against_the_intrinsics(stores, tmp_path):
    """The made cameras see as wide and high as far."""
    audit = json.loads(
        call(
            "audit-depth",
            "--estimated",
            stores / "tiny",
            "--truth",
            stores / "true",
            "--out",
            tmp_path,
            "--json",
            code=1,
        )
    )
    for clip in audit["clips"]:
        assert clip["spans_m"] == pytest.approx([clip["truth_m"]] * 2)
        assert clip["scale"] is None
    assert all("by the camera's intrinsics" in c["notes"][-1] for c in audit["cameras"])


@pytest.mark.parametrize(("wrong", "weak", "code"), [([], ["x"], 0), (["y"], [], 1), ([], [], 0)])
def test_the_demo_takes_weak_depth_but_no_wrong_depth(
    monkeypatch, tmp_path, capsys, wrong, weak, code
):
    from depthtok.api import demo as api
    from depthtok.api.audit_depth import DepthAudit
    from depthtok.api.run import WholeRun
    from depthtok.cli.demo import COMMAND

    camera = CameraAudit("image", 1, 1, {}, None, wrong, weak, [])
    audit = DepthAudit([camera], [], tmp_path / "report.html")
    monkeypatch.setattr(api, "carry_out", lambda _: WholeRun(tmp_path, ()))
    monkeypatch.setattr(api, "estimate", lambda _: audit)
    monkeypatch.setattr(pages, "demo_report", lambda *_: tmp_path / "demo.html")
    assert COMMAND.carry_out(read(COMMAND.function), {"out": tmp_path}, json=False) == code
    printed = capsys.readouterr().out
    assert ("so weak" in printed) == bool(weak)
    assert ("demo.html" in printed) == (code == 0)


def heights(stores, out, *given):
    words = [word for text in given for word in ("--camera-height", text)]
    return CliRunner().invoke(
        app,
        [
            str(word)
            for word in (
                "audit-depth",
                "--estimated",
                stores / "true",
                "--truth",
                stores / "true",
                "--out",
                out,
                *words,
            )
        ],
    )


def test_the_height_of_a_camera_is_held_against_the_truth(tmp_path):
    """It looks down at a table, 0.7 m away along its normal, and at a box on it."""

    def table(number, values):
        rows = (np.arange(32) + 0.5 - 16) / 32
        metres = np.repeat(0.7 / (0.8 + 0.6 * rows)[:, None], 32, axis=1)
        metres[4:12, 4:20] -= 0.1
        values["steps/observation/depth"][:] = np.rint(metres * 1000)[..., None]

    call(
        "annotate",
        make_rlds(tmp_path / "rlds", episodes=2, shards=1, edit=table),
        "--out",
        tmp_path / "true",
        "--estimator",
        "dataset",
        "--size",
        32,
    )
    assert heights(tmp_path, tmp_path / "a", "image=0.7").exit_code == 0
    result = heights(tmp_path, tmp_path / "b", "image=0.07")
    assert result.exit_code == 1
    (wrong,) = (line for line in result.stdout.splitlines() if "WRONG" in line)
    assert "in 2 of 2 clips true depth is 10.0" in wrong
    assert "what the camera's height says, as by 0.1 mm read as mm" in wrong


@pytest.mark.parametrize(
    "given", ["0.7", "image", "image=", "image=0", "image=-1", "image=high", "=1"]
)
def test_a_height_is_written_so(stores, tmp_path, given):
    result = heights(stores, tmp_path, given)
    assert isinstance(result.exception, ConfigError)
    assert "image=0.71" in result.exception.remedy


def test_a_height_needs_its_camera_and_its_intrinsics(stores, rgbd, tmp_path):
    assert "name one of" in heights(stores, tmp_path, "imag=0.7").exception.remedy
    _, right = rgbd
    with pytest.raises(ConfigError, match="intrinsics of camera 'image' are not known"):
        call(
            "audit-depth",
            "--estimated",
            right / "true",
            "--truth",
            right / "true",
            "--out",
            tmp_path,
            "--camera-height",
            "image=1",
        )
