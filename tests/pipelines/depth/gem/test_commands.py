"""GemDepth through the commands: trained, annotated with, and audited; `tests/pipelines/test_fused`
makes codes with it."""

import json

import numpy as np
import pytest
import torch

from depthtok.errors import ConfigError, StaleStore, WeightsError
from depthtok.stores.depth import DepthStore
from depthtok.testing import make_rlds
from pipelines.depth.families import fresh
from pipelines.depth.gem.config import gem_config
from pipelines.depth.learning.finetune import FinetuneConfig, finetune
from pipelines.depth.learning.windows import WindowLearner
from tests.commands.trainings import call
from tests.pipelines.depth.vida import recipe
from tests.pipelines.depth.vida.made import MemoryClip

TINY = ["--estimator", "gemdepth-tiny", "--input-size", 28]
FAST = [*TINY, "--from-scratch", "--steps", 2, "--batch", 1, "--frames", 2, "--held-out", 0.3]


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Episodes, their true depth, and weights of both variants, trained for two steps."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("gem")
    rlds = make_rlds(root / "rlds", episodes=4, steps=[2, 3, 26, 3], shards=1, size=28)
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
    for pose in ("on", "off"):
        call(
            "finetune-depth",
            root / "true",
            "--out",
            root / f"{pose}.safetensors",
            *FAST,
            "--set",
            f"pose={pose}",
        )
    return root


def annotate(stores, out, *more, pose="on"):
    call(
        "annotate",
        stores / "episodes",
        "--out",
        out,
        *TINY,
        "--size",
        32,
        "--weights",
        stores / f"{pose}.safetensors",
        "--set",
        f"pose={pose}",
        *more,
    )
    return out


def learner(*, pose=True):
    return WindowLearner.of(fresh(gem_config("gemdepth-tiny", pose=pose), 0))


def digests(store):
    return {part.name: part.manifest["files"] for part in store.parts()}


def test_a_trained_network_annotates_and_is_audited(stores, tmp_path):
    depths = {}
    for pose in ("on", "off"):
        card = json.loads((stores / f"{pose}.json").read_text())
        assert card["pose"] == pose
        store = DepthStore(annotate(stores, tmp_path / pose, pose=pose))
        assert store.spec.what["estimator"]["weights"] == card["weights_sha256"]
        assert ["pose", pose] in store.spec.what["estimator"]["settings"]
        assert "pose" not in store.spec.what  # what former stores are made with is as it was
        depths[pose] = digests(store)
    assert depths["on"] != depths["off"]
    call(
        "audit-depth",
        "--estimated",
        tmp_path / "on",
        "--truth",
        stores / "true",
        "--out",
        tmp_path / "audit",
        code=1,
    )
    report = json.loads((tmp_path / "audit" / "report.json").read_text())
    assert "gemdepth-tiny" in json.dumps(report)


def test_a_store_is_gone_on_with_as_it_was_made(stores, tmp_path):
    annotate(stores, tmp_path / "depth", pose="off")
    annotate(stores, tmp_path / "depth", pose="off")
    with pytest.raises(WeightsError, match="--set pose=off"):
        call(
            "annotate",
            stores / "episodes",
            "--out",
            tmp_path / "other",
            *TINY,
            "--weights",
            stores / "off.safetensors",
        )
    with pytest.raises(StaleStore):
        annotate(stores, tmp_path / "depth")


def test_poses_are_no_choice_of_another_estimator(stores, tmp_path):
    for command in (["annotate", stores / "episodes"], ["finetune-depth", stores / "true"]):
        with pytest.raises(ConfigError, match="tiny predicts no poses"):
            call(
                *command,
                "--out",
                tmp_path / "x.safetensors",
                "--estimator",
                "tiny",
                "--set",
                "pose=off",
            )


def test_training_lowers_the_loss_and_a_resumed_run_ends_the_same(stores, tmp_path):
    frames = recipe.clip(7, 28, 28, 1)
    depth = 0.5 + frames.mean(-1, dtype=np.float32) / 255
    clips, cpu = [MemoryClip(frames, depth.astype(np.float32))], torch.device("cpu")
    config = FinetuneConfig(
        steps=9, batch=1, frames=4, input_size=28, save_every=4, learning_rate=1e-3
    )
    losses, seen = [], []
    start = learner()
    before = {key: value.clone() for key, value in start.network.state_dict().items()}
    whole = finetune(
        start,
        clips,
        config,
        checkpoint=tmp_path / "a",
        device=cpu,
        on_step=lambda report: losses.append(report.loss),
    )
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])
    after = whole.state_dict()
    still = {key for key in before if before[key].equal(after[key])}
    assert all(key.endswith(".pe") for key in still), still  # the whole network learns
    assert (
        finetune(
            learner(),
            clips,
            config,
            checkpoint=tmp_path / "b",
            device=cpu,
            on_step=seen.append,
            should_stop=lambda: len(seen) == 5,
        )
        is None
    )
    resumed = finetune(learner(), clips, config, checkpoint=tmp_path / "b", device=cpu)
    assert all(value.equal(after[key]) for key, value in resumed.state_dict().items())
    with pytest.raises(
        StaleStore, match="network gemdepth-tiny, pose on, now gemdepth-tiny, pose off"
    ):
        finetune(
            learner(pose=False),
            clips,
            config,
            checkpoint=tmp_path / "b",
            device=cpu,
        )
