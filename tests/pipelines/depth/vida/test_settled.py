"""What a store is made with is settled once: who goes on with it does the same, or is refused."""

import pytest
import torch

from depthtok.config import RunOptions, to_json
from depthtok.errors import ConfigError, StaleStore
from depthtok.sources.rlds import RldsDirectory
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.filling import drop_part
from depthtok.testing import make_rlds, tree_digest
from pipelines.annotate.stage import AnnotateStage
from pipelines.config import AnnotateConfig, ConvertConfig
from pipelines.convert.stage import ConvertStage
from pipelines.depth.vida.config import RunConfig
from pipelines.plan import plan
from pipelines.run import run


@pytest.fixture(scope="module")
def episodes(tmp_path_factory):
    root = tmp_path_factory.mktemp("settled")
    rlds = RldsDirectory.open(make_rlds(root / "rlds", episodes=2, steps=2, shards=2))
    run(ConvertStage(rlds, root / "episodes", ConvertConfig()), RunOptions())
    return EpisodeStore(root / "episodes")


def stage(episodes, out, **settings):
    config = AnnotateConfig(estimator="tiny", input_size=28, size=16, camera=("image",), **settings)
    return AnnotateStage(episodes, out, config, "cpu")


@pytest.fixture
def compiles(monkeypatch):
    """Whether torch.compile works on this machine, as the test says."""

    def says(works):
        def compiler(part, **_):
            if works:
                return part
            raise RuntimeError("no compiler")

        monkeypatch.setattr(torch, "compile", compiler)

    return says


def test_made_without_a_compiler_it_goes_on_without(episodes, tmp_path, compiles):
    compiles(False)
    first = stage(episodes, tmp_path / "depth", compile=True)
    run(first, RunOptions())
    digest = tree_digest(tmp_path / "depth" / "parts")
    drop_part(tmp_path / "depth", DepthStore(tmp_path / "depth").part_names[0])
    compiles(True)
    outcome = run(stage(episodes, tmp_path / "depth", compile=True), RunOptions())
    assert (outcome.made, outcome.kept) == (1, 1)
    assert tree_digest(tmp_path / "depth" / "parts") == digest
    elsewhere = stage(episodes, tmp_path / "other", compile=True)
    assert ("compile", "yes") in elsewhere.estimator.settings  # a new store is another matter


def test_made_with_a_compiler_it_is_not_gone_on_with_without(episodes, tmp_path, compiles):
    compiles(True)
    run(stage(episodes, tmp_path / "depth", compile=True), RunOptions())
    names = DepthStore(tmp_path / "depth").part_names
    drop_part(tmp_path / "depth", names[0])
    compiles(False)
    with pytest.raises(ConfigError, match=r"is made with torch\.compile, .*no compiler") as caught:
        _ = stage(episodes, tmp_path / "depth", compile=True).spec
    assert "another --out" in caught.value.remedy
    assert not (tmp_path / "depth" / "parts" / names[0]).exists()


def test_a_worker_does_as_the_driver_settled(episodes, tmp_path, compiles):
    compiles(False)
    driver = stage(episodes, tmp_path / "depth", compile=True)
    assert driver.estimator.settings == (("algorithm", "2"), ("device", "cpu"))
    compiles(True)
    driver.build("cpu")  # it could compile, and does not
    driver = stage(episodes, tmp_path / "depth", compile=True)
    assert ("compile", "yes") in driver.estimator.settings
    compiles(False)
    with pytest.raises(ConfigError, match=r"made with torch\.compile"):
        driver.build("cpu")


def test_a_plan_measures_what_the_store_is_made_with(episodes, tmp_path, compiles, monkeypatch):
    compiles(False)
    run(stage(episodes, tmp_path / "depth", compile=True), RunOptions())
    drop_part(tmp_path / "depth", DepthStore(tmp_path / "depth").part_names[0])
    compiles(True)
    loaded, load = [], AnnotateStage.load_estimator

    def noted(self, made_with=None):
        loaded.append(load(self, made_with))
        return loaded[-1]

    monkeypatch.setattr(AnnotateStage, "load_estimator", noted)
    assert plan(stage(episodes, tmp_path / "depth", compile=True), RunOptions()).parts == 1
    compiled = [("compile", "yes") in estimator.spec.settings for estimator in loaded]
    assert compiled == [False, False]


def test_another_setting_is_still_another_store(episodes, tmp_path, compiles):
    compiles(True)
    run(stage(episodes, tmp_path / "depth"), RunOptions())
    with pytest.raises(StaleStore, match="compile: false there, true now"):
        run(stage(episodes, tmp_path / "depth", compile=True), RunOptions())


def test_stores_from_before_graphs_go_on(episodes, tmp_path):
    """The new setting is in the description of a store only where it is on."""
    annotated = stage(episodes, tmp_path / "depth")
    assert to_json(annotated.config)["graphs"] is False
    assert "graphs" not in annotated.spec.what
    assert "graphs" not in dict(annotated.estimator.settings)
    assert RunConfig().like({"graphs": "yes"}).graphs
    assert not RunConfig(graphs=True, compile=True).like({"algorithm": "3"}).graphs


def test_graphs_are_refused_without_a_gpu(episodes, tmp_path):
    with pytest.raises(ConfigError, match="CUDA graphs cannot be had on device cpu"):
        _ = stage(episodes, tmp_path / "depth", graphs=True).spec
    assert not (tmp_path / "depth").exists()
