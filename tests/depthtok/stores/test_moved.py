"""Stores that moved together find each other."""

import shutil
from importlib.resources import files
from pathlib import Path

import pytest

import depthtok
from depthtok.errors import StaleStore, StoreError
from depthtok.stores.codes import CodeStore
from depthtok.stores.depth import DepthStore
from depthtok.stores.lineage import source_of
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
    with pytest.raises(StaleStore, match="are of codebook"):
        CodeStore(moved / "codes").open_codebook()
