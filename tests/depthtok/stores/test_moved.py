"""Stores that moved together find each other."""

import shutil
from importlib.resources import files
from pathlib import Path

import pytest

import depthtok
from depthtok.errors import StaleStore, StoreError
from depthtok.stores.codes import CodeStore
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.lineage import open_store, source_of
from depthtok.stores.verify import verify_store
from depthtok.testing import make_rlds
from pipelines.depth.truth import episodes_of

BEFORE = Path(__file__).parents[2] / "data" / "before"
SAMPLE = files("depthtok") / "sample" / "libero_sample"
STORES = ("episodes", "depth", "codes", "codebook")
MOVED = {"source_root": BEFORE / "rlds" / "1.0.0"}


@pytest.fixture
def moved(tmp_path):
    """Stores that were made in /data/before."""
    for name in STORES:
        shutil.copytree(BEFORE / name, tmp_path / name)
    return tmp_path


def test_what_a_store_was_made_from_is_found_beside_it(moved):
    depth, codes = DepthStore(moved / "depth"), CodeStore(moved / "codes")
    assert depth.spec.source("episodes") == Path("/data/before/episodes")
    assert depth.source("episodes") == moved / "episodes"
    assert episodes_of(depth, **MOVED).path == moved / "episodes"
    assert codes.open_codebook().path == moved / "codebook"
    assert source_of(codes).path == moved / "depth"


def test_a_store_is_found_from_its_own_folder(moved, monkeypatch):
    for name in ("depth", "codes"):
        monkeypatch.chdir(moved / name)
        source = {"depth": "episodes", "codes": "depth"}[name]
        assert source_of(open_store(Path())).path == moved / source
    assert CodeStore(".").open_codebook().path == moved / "codebook"


def test_what_is_beside_it_is_taken_where_another_store_lies_at_the_old_place(tmp_path):
    live, away = tmp_path / "live", tmp_path / "away"
    episodes = live / "episodes"
    depthtok.convert(SAMPLE, out=episodes)
    depthtok.annotate(episodes, out=live / "depth", estimator="dataset", size=128, limit=1)
    live.rename(away)
    depthtok.convert(SAMPLE, out=episodes, copy_images=True)
    depth = DepthStore(away / "depth")
    assert depth.source("episodes") == away / "episodes"
    assert not any("not the store" in finding.problem for finding in verify_store(depth.path))
    shutil.rmtree(away / "episodes")
    assert depth.source("episodes") == episodes, "said to be where it was"
    with pytest.raises(StaleStore):
        episodes_of(depth)


def test_of_two_recordings_of_one_name_the_one_with_its_parts_is_taken(tmp_path):
    live, away = tmp_path / "live", tmp_path / "away"
    for seed, root in ((1, live), (2, tmp_path / "new")):
        depthtok.convert(make_rlds(root / "set", seed=seed), out=root / "episodes")
    depthtok.annotate(live / "episodes", out=live / "depth", estimator="dataset", size=32)
    live.rename(away)
    (tmp_path / "new").rename(live)
    depth = DepthStore(away / "depth")
    assert EpisodeStore(live / "episodes").fingerprint == depth.spec.upstream
    assert depth.source("episodes") == away / "episodes"
    shutil.rmtree(away / "episodes")
    assert depth.source("episodes") == live / "episodes", "its parts are named as outdated"


def test_a_folder_that_is_no_store_is_not_taken(moved):
    for name in ("episodes", "codebook"):
        shutil.rmtree(moved / name)
        (moved / name).mkdir()
    (moved / "episodes" / "readme.txt").write_text("hi")
    assert DepthStore(moved / "depth").source("episodes") == Path("/data/before/episodes")
    (finding,) = verify_store(moved / "depth")
    assert finding.note
    with pytest.raises(StoreError, match="is not in /data/before/codebook") as caught:
        CodeStore(moved / "codes").open_codebook()
    assert "--codebook DIR" in caught.value.remedy


def test_another_store_beside_it_is_not_taken(moved):
    shutil.rmtree(moved / "episodes")
    with pytest.raises(StoreError, match="/data/before/episodes does not exist"):
        episodes_of(DepthStore(moved / "depth"), **MOVED)
    depthtok.convert(SAMPLE, out=moved / "episodes")
    depth = DepthStore(moved / "depth")
    assert depth.source("episodes") == Path("/data/before/episodes")
    with pytest.raises(StoreError, match="/data/before/episodes does not exist"):
        episodes_of(depth, **MOVED)
    assert source_of(depth) is None
    shutil.rmtree(moved / "codebook")
    shutil.copytree(files("vqvae") / "demo", moved / "codebook")
    with pytest.raises(StoreError, match="is not in /data/before/codebook"):
        CodeStore(moved / "codes").open_codebook()
