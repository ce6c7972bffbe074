"""The benchmark of a million episodes, at a hundredth of its size."""

import importlib.util
from pathlib import Path

import pytest

from depthtok.stores.episodes import EpisodeStore

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "million_episodes.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("million_episodes", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.unchecked  # what is measured is not checked
def test_holds_its_limits_on_ten_thousand_episodes(benchmark, tmp_path):
    figures = benchmark.run(tmp_path, episodes=10_000, parts=40, images=None)
    assert benchmark.over(figures) == []
    assert (figures["episodes"], figures["steps"], figures["parts"]) == (10_000, 500_000, 40)
    assert figures["planned_parts"] == 40 * 7  # 12,500 steps a part, at most 2,048 in a piece
    assert benchmark.over({**figures, "own_mb": 271.0}) == ["own_mb: 271.0, at most 270"]
    heavy = {"imported_mb": 1_200.0, "peak_mb": 1_260.0, "own_mb": 60.0}  # a torch with CUDA
    assert benchmark.over({**figures, **heavy}) == []


def test_generated_store_is_sound(benchmark, tmp_path):
    path = tmp_path / "episodes"
    benchmark.generate(path, episodes=60, parts=3)
    store = EpisodeStore(path)
    assert [problem for part in store.parts() for problem in part.verify()] == []
    assert len({tuple(part.frames) for part in store.parts()}) == 3  # each in an order of its own
    assert store.locate(store.steps - 1) == (59, len(store.episode(59)) - 1)
