"""Estimators of other packages: one that is installed for the test, and offers that are wrong."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch

from depthtok.data import DepthBlock, DepthKind, EstimatorSpec
from depthtok.errors import ConfigError, WeightsError
from pipelines.depth import outside
from pipelines.depth.registry import find
from pipelines.depth.single_frames.config import FrameConfig
from pipelines.depth.vida.config import RunConfig
from tests.pipelines.depth.vida import recipe
from tests.pipelines.depth.vida.made import MemoryClip

ROOT = Path(__file__).parents[4]
EXAMPLE = ROOT / "examples" / "own_estimator"
CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """The example, installed by pip into a folder of its own: to be put on the path."""
    folder = tmp_path_factory.mktemp("installed")
    source = shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("source") / "own_estimator")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    options = ["--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*command, folder, *options, source], check=True)
    return folder


@pytest.fixture
def own(installed, monkeypatch):
    monkeypatch.syspath_prepend(str(installed))
    monkeypatch.setenv("PYTHONPATH", f"{installed}{os.pathsep}{ROOT}")


def typed(*words):
    """A command in a process of its own; its result as JSON."""
    command = [sys.executable, "-m", "depthtok", *map(str, words), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    return done, json.loads(done.stdout) if done.stdout.startswith(("{", "[")) else {}


def test_a_package_of_ones_own_is_an_estimator_like_any_other(own, tmp_path):
    from depthtok.stores.depth import DepthStore
    from depthtok.testing import make_rlds

    rlds = make_rlds(tmp_path / "1.0.0", shards=1)
    done, doctor = typed("doctor")
    row = next(row for row in doctor["rows"] if row["name"] == "low-is-near")
    assert row["state"] == "ok"
    assert row["detail"] == "disparity; Apache-2.0; own-estimator 1.0"
    for out, name in (("depth", "low-is-near"), ("true", "dataset")):
        words = ("annotate", rlds, "--out", tmp_path / out, "--estimator", name, "--size", 32)
        done, _ = typed(*words)
        assert done.returncode == 0, done.stderr
    depth = DepthStore(tmp_path / "depth")
    assert depth.kind is DepthKind.DISPARITY
    assert depth.estimator["name"] == "low-is-near"
    settings = dict(depth.estimator["settings"])
    assert settings["class"] == "own_estimator:LowIsNear"
    values = next(depth.clips()).read().values
    assert (values[:, -1] > values[:, 0]).all()
    stores = ("--estimated", tmp_path / "depth", "--truth", tmp_path / "true")
    done, audit = typed("audit-depth", *stores, "--out", tmp_path / "audit")
    assert done.returncode in (0, 1), done.stderr
    assert audit["cameras"][0]["figures"]["abs_rel"] > 0
    assert "low-is-near" in next((tmp_path / "audit").glob("*.html")).read_text()


def test_its_depth_is_what_the_class_gives_frame_by_frame(own):
    estimator = find("low-is-near").build(None, RunConfig(), CPU)
    clip = MemoryClip(recipe.clip(11, 20, 24, seed=1))
    values = np.concatenate([block.depth.values for block in estimator.estimate([clip])])
    rows = np.linspace(0.2, 1.0, 20, dtype=np.float32)[None, :, None]
    expected = rows + 0.1 * clip.frames.mean(-1, dtype=np.float32) / 255
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    assert estimator.spec.weights == ""


def test_weights_reach_the_class_and_the_spec(own, tmp_path):
    (tmp_path / "w").write_text("0.5")
    entry = find("low-is-near")
    estimator = entry.build(tmp_path / "w", RunConfig(), CPU)
    assert estimator.network._made.brightness == 0.5
    assert len(estimator.spec.weights) == 64
    with pytest.raises(WeightsError, match="there is no file"):
        entry.build(tmp_path / "absent", RunConfig(), CPU)


class Plain:
    def __init__(self, weights, device):
        self.device = device

    def depth(self, frames):
        return frames[..., 0].astype(np.float32)


class Relative(Plain):
    kind, licence = "relative_depth", "MIT"


class Wrong(Plain):
    kind = "feet"


class Few(Relative):
    def depth(self, frames):
        return super().depth(frames)[:1]


class Small(Relative):
    def depth(self, frames):
        return super().depth(frames)[:, ::2, ::2]


class Nothing:
    def __init__(self, weights, device):
        pass


class Video:
    kind, device, degraded = "metres", "cpu", False
    spec = EstimatorSpec("video", DepthKind.METRES, weights="")

    def __init__(self, weights, device):
        pass

    def estimate(self, clips):
        return (DepthBlock(number, error="none") for number, _ in enumerate(clips))


def point(name, value=None):
    return EntryPoint(name, value or f"{__name__}:{name}", outside.GROUP)


@pytest.fixture
def offered(monkeypatch):
    """A function that makes packages offer these entry points."""

    def offer(*points):
        def found(group, name=None):
            assert group == outside.GROUP
            return [p for p in points if name in (None, p.name)]

        monkeypatch.setattr(outside, "entry_points", found)
        for p in points:
            monkeypatch.setattr(EntryPoint, "load", lambda p: _load(p.value))

    return offer


def _load(value):
    if value == "absent:Module":
        raise ImportError("No module named 'absent'")
    return globals()[value.split(":")[1]]


def build(name, weights=None, **frame):
    return find(name).build(weights, RunConfig(frame=FrameConfig(**frame)), CPU)


def test_a_class_that_does_not_say_its_kind_needs_it_stated(offered):
    offered(point("Plain"))
    with pytest.raises(ConfigError, match="says nothing of its kind") as caught:
        build("Plain")
    assert "kind=" in caught.value.remedy
    assert build("Plain", kind="metres").spec.kind is DepthKind.METRES


def test_what_a_class_says_wrong_is_named(offered):
    offered(point("Wrong"), point("Few"), point("Nothing"), point("Relative"))
    with pytest.raises(ConfigError, match="kind 'feet'"):
        find("Wrong")
    with pytest.raises(ConfigError, match="neither `depth` nor"):
        build("Nothing")
    with pytest.raises(ConfigError, match="relative_depth"):
        build("Relative", kind="metres")
    (block,) = build("Few").estimate([MemoryClip(recipe.clip(3, 8, 8, seed=1))])
    assert "expected [3, height, width]" in block.error


def test_relative_depth_has_its_shift_and_small_depth_gets_the_frames_size(offered):
    offered(point("Relative"), point("Small"))
    assert build("Relative", shift=2.0).spec.shift == 2.0
    assert build("Relative").spec.shift == 0.0
    (block,) = build("Small", shift=2.0).estimate([MemoryClip(recipe.clip(3, 8, 10, seed=1))])
    assert block.depth.values.shape == (3, 8, 10)
    assert block.depth.shift == 2.0


def test_one_that_sees_whole_clips_is_used_as_it_is(offered):
    offered(point("Video"))
    assert build("Video").spec.name == "Video"
    with pytest.raises(ConfigError, match="whole clips"):
        build("Video", steady="clip")


def test_two_packages_with_one_name_are_refused(offered):
    offered(point("Plain"), point("Plain"))
    with pytest.raises(ConfigError, match="both offer"):
        find("Plain")


def test_a_package_that_cannot_be_imported_stops_nothing_else(offered):
    offered(point("broken", "absent:Module"), point("Relative"))
    good, broken = outside.offers()
    assert "No module named 'absent'" in broken.fault
    assert (good.kind, good.licence) == (DepthKind.RELATIVE_DEPTH, "MIT")
    with pytest.raises(ConfigError, match="cannot be imported"):
        find("broken")
    with pytest.raises(ConfigError, match="no estimator 'Relativ'") as caught:
        find("Relativ")
    assert "Relative" in caught.value.remedy
