"""Stores made before absent cameras were looked for: they open, and say that it is not known."""

import shutil
from pathlib import Path

import numpy as np

from depthtok.config import RunOptions
from depthtok.stores.codebook import Codebook
from depthtok.stores.codes import CodeStore
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from pipelines.annotate.stage import AnnotateStage
from pipelines.config import AnnotateConfig, TokenizeConfig
from pipelines.inspect.summary import inspect
from pipelines.run import run
from pipelines.tokenize import TokenizeStage

BEFORE = Path(__file__).parents[1] / "data" / "before"


def test_nothing_is_absent_as_far_as_they_know():
    stores = [
        EpisodeStore(BEFORE / "episodes"),
        DepthStore(BEFORE / "depth"),
        CodeStore(BEFORE / "codes"),
    ]
    for store in stores:
        assert not store.knows_absent
        assert store.absent_counts() == {}
        assert inspect(store.path).facts["absent"] == "not known"
    episodes, depth, codes = stores
    for episode in episodes:
        assert not any(map(episode.absent, episode.cameras))
        assert codes.find_grid(episode.key, "image").codes.shape == (len(episode), *codes.grid)
    assert len(list(depth.clips())) == len(episodes)


def test_they_are_gone_on_with(tmp_path):
    """A part that was lost is made again, as the former version described the store."""
    for name in ("depth", "codes"):
        shutil.copytree(BEFORE / name, tmp_path / name)
        shutil.rmtree(sorted((tmp_path / name / "parts").glob("*-of-*.*"))[0])
    episodes = EpisodeStore(BEFORE / "episodes", source_root=BEFORE / "rlds" / "1.0.0")
    config = AnnotateConfig(estimator="dataset", size=64)
    outcome = run(AnnotateStage(episodes, tmp_path / "depth", config, "cpu"), RunOptions())
    assert (outcome.made, outcome.kept) == (1, 1)
    depth = DepthStore(tmp_path / "depth")
    for old, new in zip(DepthStore(BEFORE / "depth").clips(), depth.clips(), strict=True):
        np.testing.assert_array_equal(old.read().values, new.read().values)
    book = Codebook.load(BEFORE / "codebook")
    gate = CodeStore(BEFORE / "codes").about["gate"]
    stage = TokenizeStage(depth, book, tmp_path / "codes", TokenizeConfig(), "cpu", gate)
    outcome = run(stage, RunOptions())
    assert (outcome.made, outcome.kept) == (1, 1)
    assert CodeStore(tmp_path / "codes").spec.stage_version == 1
