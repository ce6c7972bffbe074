"""finetune-vida and audit-depth from the command line, on boxes that move."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from depthtok.cli import app
from depthtok.depth import DepthStore
from depthtok.episodes import EpisodeStore
from depthtok.errors import ConfigError, DepthKindError, MissingParts, SourceError, StaleStore
from depthtok.store import Store, drop_part
from depthtok.testing import make_rlds
from pipelines.vida.config import CONFIGS
from pipelines.vida.course import Course
from pipelines.vida.finetune import FinetuneConfig
from pipelines.vida.truth import held_out, true_clips


def call(*arguments, code=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Episodes, their true depth, and what the demo network says at a tiny size."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("depth")
    rlds = make_rlds(root / "rlds", episodes=4, steps=4, shards=1)
    call("convert", rlds, "--out", root / "episodes")
    call("annotate", root / "episodes", "--out", root / "true", "--estimator", "dataset",
         "--size", 32)  # fmt: skip
    call("annotate", root / "episodes", "--out", root / "tiny", "--estimator", "tiny",
         "--input-size", 28, "--size", 32)  # fmt: skip
    return root


FAST = ["--estimator", "tiny", "--steps", 2, "--batch", 1, "--frames", 2, "--input-size", 28]


def test_finetuning_makes_weights_that_annotate_takes(stores, tmp_path):
    out = tmp_path / "mine.safetensors"
    told = json.loads(call("finetune-vida", stores / "true", "--out", out, *FAST, "--held-out", 0.3,
                           "--json"))  # fmt: skip
    assert told["training"]["settings"]["steps"] == 2
    sides = [set(told[part]["clips"]) for part in ("training", "held_out")]
    assert sides[0]
    assert sides[1]
    assert not sides[0] & sides[1]
    figures = told["held_out"]["figures"]
    assert {"image, this network", "image, mean map of the training clips"} <= set(figures)
    assert json.loads(out.with_suffix(".json").read_text()) == told
    call("annotate", stores / "episodes", "--out", tmp_path / "depth", "--estimator", "tiny",
         "--weights", out, "--input-size", 28, "--size", 32)  # fmt: skip
    store = DepthStore(tmp_path / "depth")
    assert store.spec.what["estimator"]["weights"] == told["weights_sha256"]
    before = out.read_bytes()
    call("finetune-vida", stores / "true", "--out", out, *FAST, "--held-out", 0.3)
    assert out.read_bytes() == before  # all steps were there
    with pytest.raises(StaleStore, match="data"):
        call("finetune-vida", stores / "true", "--out", out, *FAST, "--camera", "image")


def test_a_stopped_course_goes_on_to_the_same_weights(stores, tmp_path):
    store = DepthStore(stores / "true")
    config = FinetuneConfig(steps=3, batch=1, frames=2, input_size=28)

    def course(name):
        return Course(CONFIGS["tiny"], config, true_clips(store), [], "d", tmp_path / name,
                      from_scratch=True)  # fmt: skip

    asked = []
    whole, cut = course("a.safetensors"), course("b.safetensors")
    assert whole.train("cpu", lambda report: None, lambda: False)
    assert not cut.train("cpu", asked.append, lambda: len(asked) == 1)
    assert not cut.out.exists()
    assert course("b.safetensors").train("cpu", asked.append, lambda: False)
    assert [report.step for report in asked] == [0, 1, 2]
    assert cut.out.read_bytes() == whole.out.read_bytes()


def test_a_course_begun_by_the_former_rule_keeps_its_held_out_episodes(
    stores, tmp_path, monkeypatch
):
    """Seed 1 holds out another episode by the former rule than the key does."""
    from pipelines.vida import truth

    def train():
        told = call("finetune-vida", stores / "true", "--out", tmp_path / "x.safetensors", *FAST,
                    "--held-out", 0.3, "--seed", 1, "--json")  # fmt: skip
        return set(json.loads(told)["held_out"]["clips"])

    with monkeypatch.context() as patch:
        patch.setattr(truth, "split", lambda sources, share: truth.split_before(sources, share, 1))
        former = train()
    assert train() == former
    (tmp_path / "x.checkpoint.pt").unlink()
    assert train() != former


def test_clips_of_one_episode_are_on_one_side(stores):
    store = DepthStore(stores / "true")
    train, judges = held_out([(store, true_clips(store))], 0.3, [])
    assert {clip.key for clip in train}.isdisjoint({clip.key for clip in judges})
    assert len(train) + len(judges) == 8
    _, judges = held_out([(store, true_clips(store))], 0.0, ["box 1"])
    assert {clip.instruction for clip in judges} == {"move box 1"}
    with pytest.raises(ConfigError, match="0 clips for training"):
        held_out([(store, true_clips(store))], 0.0, ["move"])


def test_a_camera_that_is_named_twice_is_refused(stores, tmp_path):
    twice = ["--camera", "image", "--camera", "image"]
    with pytest.raises(ConfigError, match="image, image"):
        call("finetune-vida", stores / "true", "--out", tmp_path / "x.safetensors", *FAST, *twice)
    with pytest.raises(ConfigError, match="image, image"):
        call("audit-depth", "--estimated", stores / "true", "--truth", stores / "true",
             "--out", tmp_path, *twice)  # fmt: skip


@pytest.mark.parametrize("share", [1.5, 1.0, -1.0, float("nan")])
def test_a_share_is_from_0_to_below_1(stores, share):
    store = DepthStore(stores / "true")
    with pytest.raises(ConfigError, match="`held_out` cannot be"):
        held_out([(store, true_clips(store))], share, [])


def test_estimates_are_no_truth(stores, tmp_path):
    with pytest.raises(DepthKindError, match="estimate"):
        call("finetune-vida", stores / "tiny", "--out", tmp_path / "x.safetensors", *FAST)
    with pytest.raises(DepthKindError, match="not ground-truth depth"):
        call("audit-depth", "--estimated", stores / "true", "--truth", stores / "tiny",
             "--out", tmp_path)  # fmt: skip
    with pytest.raises(ConfigError, match="safetensors"):
        call("finetune-vida", stores / "true", "--out", tmp_path / "x.pth", *FAST)


def test_an_audit_says_how_far_off_depth_is(stores, tmp_path):
    text = call("audit-depth", "--estimated", stores / "true", "--truth", stores / "true",
                "--out", tmp_path, "--json")  # fmt: skip
    told = json.loads(text)
    assert len(told["clips"]) == 8
    assert all(clip["abs_rel"] < 1e-5 for clip in told["clips"])
    assert [(c["figures"]["gripper"] is None) for c in told["cameras"]] == [True, True]
    page = (tmp_path / "report.html").read_text()
    assert page.count("<figure>") == 2 * 3 * 4
    assert "not there" not in page
    assert json.loads((tmp_path / "report.json").read_text())["sections"]


def test_a_network_that_saw_the_pictures_turned_fails_the_audit(stores, tmp_path, monkeypatch):
    def flipped(clip, start=0, stop=None):
        found = read(clip, start, stop)
        return type(found)(found.values[:, ::-1], found.valid[:, ::-1], found.kind, found.quantiles)

    from depthtok.depth import StoredDepth

    read, true = StoredDepth.read, str(stores / "true")
    copy = tmp_path / "copy"
    call("annotate", stores / "episodes", "--out", copy, "--estimator", "dataset", "--size", 32)
    monkeypatch.setattr(
        StoredDepth,
        "read",
        lambda clip, *span: (read if str(clip.store.path) == true else flipped)(clip, *span),
    )
    out = call("audit-depth", "--estimated", copy, "--truth", true, "--out", tmp_path / "audit",
               code=1)  # fmt: skip
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

    call("annotate", make_rlds(tmp_path / "rlds", episodes=1, shards=1, edit=edit), "--out",
         tmp_path / "true", "--estimator", "dataset", "--size", 16)  # fmt: skip
    told = json.loads(call("audit-depth", "--estimated", tmp_path / "true", "--truth",
                           tmp_path / "true", "--out", tmp_path / "audit", "--json"))  # fmt: skip
    assert [clip["gripper"] is not None for clip in told["clips"]] == [True, False]


def test_stores_without_a_common_episode_are_refused(stores, tmp_path):
    call("annotate", make_rlds(tmp_path / "rlds", episodes=1, shards=1, name="libero_sample"),
         "--out", tmp_path / "other", "--estimator", "dataset", "--size", 32)  # fmt: skip
    with pytest.raises(SourceError, match="no episode is in both"):
        call("audit-depth", "--estimated", tmp_path / "other", "--truth", stores / "true",
             "--out", tmp_path / "audit")  # fmt: skip


def test_an_audit_says_what_it_leaves_out(tmp_path):
    def edit(number, values):
        if number == 0:
            depth = values["steps/observation/depth"]
            values["steps/observation/depth"] = [b"no picture"] * len(depth)

    true, out = tmp_path / "true", tmp_path / "audit"
    call("annotate", make_rlds(tmp_path / "rlds", shards=3, edit=edit), "--out", true,
         "--estimator", "dataset", "--size", 16, code=1)  # fmt: skip
    audit = ["audit-depth", "--estimated", true, "--truth", true, "--out", out, "--json"]
    assert len(json.loads(call(*audit))["clips"]) == 5 * 2
    drop_part(true, Store(true).part_names[-1])
    with pytest.raises(MissingParts, match="lacks 1 of its parts"):
        call(*audit)
    result = CliRunner().invoke(app, [str(argument) for argument in [*audit, "--partial"]])
    assert result.exit_code == 0
    assert result.stderr.count("1 failed episodes are left out") == 2
    assert len(json.loads(result.stdout)["clips"]) == 3 * 2
