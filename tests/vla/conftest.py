"""A model of a few thousand weights, and data for it."""

import fakes
import pytest
import torch

from vla.config import load
from vla.data import Dataset, member
from vla.tokenizer import ByteTokenizer

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


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def micro():
    """Makes the micro configuration, with overrides."""
    return lambda **over: load("tiny", MICRO | {k.replace("__", "."): v for k, v in over.items()})


@pytest.fixture
def codebook():
    return fakes.FakeCodebook(codes=16, dim=12)


@pytest.fixture
def toy():
    """Makes a data set for a configuration."""

    def make(config, episodes=None, **options):
        episodes = episodes or fakes.FakeEpisodes()
        grid = config.model.depth.grid
        codes = fakes.FakeCodes(episodes, grid=grid, codes=16)
        joined = member(episodes.name, episodes, codes, config, codebook=codes.codebook, **options)
        return Dataset([joined], config, ByteTokenizer())

    return make
