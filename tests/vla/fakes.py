"""In-memory stand-ins for the stores, and a model of a few thousand weights for them."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from depthtok.data import Camera, CodeGrid, EpisodeKey, ImageTransform
from depthtok.meaning import Column, Meaning
from depthtok.stores.parts import ShardKey
from depthtok.stores.statistics import ColumnStatistics, Statistics
from vla.data.dataset import Dataset
from vla.data.member import member
from vla.data.tokenizer import ByteTokenizer
from vla.named_configs import load

INSTRUCTIONS = ("put the red cup on the plate", "open the drawer")

MEANING = Meaning(
    tuple(Column(name) for name in ("x", "y", "z", "roll", "pitch", "yaw", "gripper")),
    tuple(Column(f"s{n}") for n in range(8)),
    "open1_closed-1",
    10.0,
)


@dataclass(frozen=True)
class Frames:
    key: EpisodeKey
    camera: Camera
    images: np.ndarray
    fps: float | None = 10.0

    def __len__(self):
        return len(self.images)

    def read(self, start, stop):
        return self.images[start:stop]


@dataclass(frozen=True)
class FakeEpisode:
    key: EpisodeKey
    action: np.ndarray
    proprio: np.ndarray
    images: dict
    text: str
    lacking: frozenset = frozenset()  # cameras
    fps: float | None = 10.0

    @property
    def cameras(self):
        return {name: Camera(name, *frames.shape[1:3]) for name, frames in self.images.items()}

    def absent(self, camera):
        return camera in self.lacking

    def __len__(self):
        return len(self.action)

    def instruction(self, step=0):
        return self.text

    def instructions(self, step=0):
        return [self.text]

    def frames(self, camera):
        return Frames(self.key, self.cameras[camera], self.images[camera])


@dataclass(frozen=True)
class SeveralTexts(FakeEpisode):
    """An episode whose steps can be said in three ways."""

    def instructions(self, step=0):
        return [self.text, "please", "now"]


def columns(values):
    ends = np.quantile(values, (0.01, 0.99), axis=0)
    figures = values.mean(0), values.std(0), values.min(0), values.max(0), *ends
    return ColumnStatistics(len(values), *(tuple(figure.tolist()) for figure in figures))


@dataclass(frozen=True)
class FakePart:
    shard: ShardKey
    indices: np.ndarray
    frames: np.ndarray
    meta: dict = field(default_factory=dict)


def parts(lengths):
    """The parts of the stores that hold episodes of these keys and lengths: one a shard."""
    shards = {}
    for key, frames in lengths.items():
        shards.setdefault(ShardKey.of(key), []).append((key.index, frames))
    return [FakePart(shard, *np.array(rows).T) for shard, rows in shards.items()]


class FakeEpisodes:
    """`count` episodes of `steps` steps (the last one shorter), seen by `cameras`."""

    gripper = (-1,)
    action_dim, proprio_dim = 7, 8
    meaning = MEANING
    content = "as first made"

    def __init__(self, count=3, steps=8, cameras=("main", "wrist"), size=32, name="toy", seed=0):
        rng = np.random.default_rng(seed)
        self.name, self.fingerprint = name, f"episodes-{name}-{count}-{steps}"
        self.cameras = {camera: Camera(camera, size, size) for camera in cameras}
        self.lengths = np.full(count, steps)
        self.lengths[-1] = max(steps - 3, 1)
        self._made = [self._episode(rng, n, int(t), size) for n, t in enumerate(self.lengths)]

    def _episode(self, rng, number, steps, size):
        images = {c: rng.integers(0, 256, (steps, size, size, 3), np.uint8) for c in self.cameras}
        action = rng.normal(size=(steps, 7)).astype("f4") * 3 + 1
        action[:, -1] = np.sign(action[:, -1])
        proprio = rng.normal(size=(steps, 8)).astype("f4")
        key = EpisodeKey(self.name, "1.0.0", "train", 0, 1, number)
        return FakeEpisode(key, action, proprio, images, INSTRUCTIONS[number % 2])

    def episode(self, number):
        return self._made[number]

    def parts(self):
        return parts({episode.key: len(episode) for episode in self._made})

    def statistics(self):
        parts = [np.concatenate([getattr(e, n) for e in self._made]) for n in ("action", "proprio")]
        return Statistics(*map(columns, parts), len(self._made), len(parts[0]))


class FakeCodes:
    """Random codes of all cameras, except for the episodes in `failed`."""

    content = "as first made"

    def __init__(self, episodes, grid=16, codes=256, failed=(), transform=None, seed=0):
        rng = np.random.default_rng(seed)
        self.fingerprint, self.codebook = "codes", FakeCodebook.fingerprint
        self.grid, self.cameras = (grid, grid), tuple(episodes.cameras)
        self.transform = transform or ImageTransform(size=(256, 256))
        self.absent = set()  # (key, camera)
        self._codes = {
            episode.key: {
                c: rng.integers(0, codes, (len(episode), grid, grid), np.uint8)
                for c in self.cameras
            }
            for n, episode in enumerate(episodes._made)
            if n not in failed
        }

    def missing(self):
        return []

    def parts(self):
        return parts({k: len(next(iter(c.values()))) for k, c in self._codes.items()})

    def find_grid(self, key, camera):
        return None if (key, camera) in self.absent else self.grid_of(key, camera)

    def grid_of(self, key, camera):
        return CodeGrid(self._codes[key][camera], self.codebook, (0.0, 1.0), self.transform)


class FakeCodebook:
    fingerprint = "c0debook"

    def __init__(self, codes=256, dim=160, seed=0):
        self.codes, self.dim, self.seed = codes, dim, seed

    @cached_property
    def vectors(self):
        return np.random.default_rng(self.seed).normal(size=(self.codes, self.dim)).astype("f4")


MICRO = {
    "model.cameras": 2,
    "model.max_text": 40,
    "model.chunk": 4,
    "model.vision.image_size": 32,
    "model.vision.patch": 8,
    "model.vision.width": 32,
    "model.vision.layers": 1,
    "model.vision.mlp": 64,
    **{f"model.{e}.width": 32 for e in ("vlm", "action", "depth_expert")},
    **{f"model.{e}.mlp": 64 for e in ("vlm", "action", "depth_expert")},
    **{f"model.{e}.layers": 2 for e in ("vlm", "action", "depth_expert")},
    **{f"model.{e}.heads": 2 for e in ("vlm", "action", "depth_expert")},
    "model.depth.codes": 16,
    "model.depth.code_dim": 12,
    "model.depth.grid": 4,
    "data.cameras": ("main", "wrist"),
    "train.batch": 4,
    "train.steps": 8,
    "train.warmup": 2,
}


def micro(**over):
    """The micro configuration; `model__mask="causal"` overrides `model.mask`."""
    return load("tiny", MICRO | {name.replace("__", "."): value for name, value in over.items()})


def toy(config, episodes=None, **options):
    """A data set for a micro configuration."""
    episodes = episodes or FakeEpisodes()
    codes = FakeCodes(episodes, grid=config.model.depth.grid, codes=16)
    joined = member(episodes.name, episodes, codes, config, codebook=codes.codebook, **options)
    return Dataset([joined], config, ByteTokenizer())
