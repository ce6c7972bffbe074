"""A small network and clips in memory, for the tests of this folder."""

from dataclasses import replace

from depthtok.data import Camera, EpisodeKey
from depthtok.errors import CorruptRecord
from pipelines.depth.learning.windows import WindowLearner
from pipelines.depth.vida.config import CONFIGS
from pipelines.depth.vida.network import VideoDepth
from tests.pipelines.depth.vida import recipe


def tiny_network(*, metric: bool = False) -> VideoDepth:
    """A network of a few thousand weights at which every part matters."""
    config = replace(
        CONFIGS["tiny"], dim=32, depth=4, heads=2, taps=(0, 1, 2, 3), channels=(8, 16, 32, 32)
    )
    network = VideoDepth(replace(config, metric=metric)).eval()
    schema = {key: list(value.shape) for key, value in network.state_dict().items()}
    network.load_state_dict(recipe.state_dict(schema, seed=4))
    return network


def learner(*, metric: bool = False) -> WindowLearner:
    """The same, to be trained."""
    return WindowLearner.of(tiny_network(metric=metric))


class MemoryClip:
    """A clip whose frames are in memory; reading frame `broken` or later fails."""

    def __init__(self, frames, depth=None, broken=None):
        self.frames, self.depth, self.broken = frames, depth, broken
        self.key = EpisodeKey("made", "1.0.0", "train", 0, 1, 0)
        self.camera = Camera("front", *frames.shape[1:3])
        self.fps = 10.0
        self.reads = []

    def __len__(self):
        return len(self.frames)

    def read(self, start, stop):
        self.reads.append((start, stop))
        if self.broken is not None and stop > self.broken:
            raise CorruptRecord(f"frame {self.broken} is broken")
        return self.frames[start:stop]

    def true_depth(self, start, stop):
        return self.depth[start:stop]
