from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from depthtok.data import DepthKind
from depthtok.stores.depth import DepthStore
from depthtok.stores.parts import Part, ShardKey
from tests.vqvae.synthetic import scenes
from vqvae.data.clips import ClipSource, StoredClips, lengths_of, spread, spread_over, where


class FakePart(Part):
    """A part of many short episodes, without files."""

    def __init__(self, number: int, episodes: int) -> None:
        self.path = Path(f"train-{number:05d}-of-00002.000-of-001")
        self.shard = ShardKey("d", "1", "train", number, 2)
        self.frames = np.full(episodes, 10 + number, np.int64)
        self.indices = np.arange(episodes)
        self.starts = np.cumsum(self.frames) - self.frames

    @property
    def absent(self) -> dict[str, list[int]]:
        return {}

    def map(self, array: str) -> np.ndarray:
        return np.zeros((len(self.frames), 2, 11), np.float32)


class FakeStore(DepthStore):
    """A store of such parts."""

    def __init__(self, parts: list[FakePart]) -> None:
        self.cameras, self.kind, self.size = ("image", "wrist"), DepthKind.DISPARITY, (8, 8)
        self.part_names = [part.name for part in parts]
        self.part = {part.name: part for part in parts}.__getitem__


def stored(episodes: int) -> StoredClips:
    store = FakeStore([FakePart(0, episodes), FakePart(1, episodes)])
    return StoredClips(store, ("image", "wrist"))


def test_clips_are_in_the_order_of_parts_and_episodes():
    clips = stored(3)
    assert len(clips) == 12
    names = [(clip.key.shard, clip.key.index, clip.camera, clip.frames) for clip in clips]
    assert names[:3] == [(0, 0, "image", 10), (0, 0, "wrist", 10), (0, 1, "image", 10)]
    assert names[-1] == (1, 2, "wrist", 11)
    assert clips.lengths.tolist() == [clip.frames for clip in clips]
    assert [clip.start for clip in clips][6:] == [0, 0, 11, 11, 22, 22]
    with pytest.raises(IndexError):
        clips[12]


@pytest.mark.unchecked
def test_a_million_clips_take_a_few_bytes_each():
    clips = stored(250_000)
    tracemalloc.start()
    source = where(ClipSource("d", "f", clips), np.arange(len(clips)) % 10 > 0)
    assert int(lengths_of(source.clips).sum()) == 9_450_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30 * len(clips)


def test_some_clips_are_spread_over_all():
    clips = scenes(10, frames=1)
    assert [clip.key for clip in spread(clips, 3)] == ["episode-0", "episode-4", "episode-9"]
    assert spread(clips, 0) is clips
    assert spread(clips, 10) is clips


def test_clips_are_spread_over_all_sources_together():
    sources = [ClipSource(name, "f", scenes(n, frames=1)) for name, n in (("a", 8), ("b", 2))]
    chosen = spread_over(sources, 5)
    assert [[clip.key for clip in source.clips] for source in chosen] == [
        ["episode-0", "episode-2", "episode-4", "episode-6"],
        ["episode-1"],
    ]
    assert [source.name for source in chosen] == ["a", "b"]
    assert spread_over(sources, 0) == sources
