"""Depth that was annotated before placeholders were known opens, resumes, and means what it did."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from depthtok.config import RunOptions
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.filling import drop_part
from depthtok.testing import tree_digest
from pipelines.annotate.stage import AnnotateStage
from pipelines.config import AnnotateConfig
from pipelines.run import run

BEFORE = Path(__file__).parents[1] / "data" / "before"


@pytest.fixture
def depth(tmp_path):
    return Path(shutil.copytree(BEFORE / "depth", tmp_path / "depth"))


def stage(out):
    episodes = EpisodeStore(BEFORE / "episodes", source_root=BEFORE / "rlds" / "1.0.0")
    return AnnotateStage(episodes, out, AnnotateConfig(estimator="dataset", size=64), "cpu")


def test_its_views_have_no_rule():
    views = EpisodeStore(BEFORE / "episodes").views
    assert {view.not_measured for view in views} == {None}


def test_a_missing_part_is_made_again_to_the_same_bytes(depth):
    before, store = tree_digest(depth / "parts"), DepthStore(depth)
    drop_part(depth, store.part_names[1])
    outcome = run(stage(depth), RunOptions())
    assert (outcome.made, outcome.kept) == (1, 1)
    assert outcome.not_measured == {}
    assert tree_digest(depth / "parts") == before
    clip = next(DepthStore(depth).clips("image"))
    assert np.isfinite(clip.quantiles).all()
