"""Pixel targets: cell means of normalised disparity, through the loop."""

import math
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from depthtok.data import QUANTILES, DepthClip, DepthKind, ImageTransform
from depthtok.errors import ConfigError, DepthKindError
from depthtok.normalisation import Normalisation
from tests.vla import fakes
from vla.data.crops import DepthCrops
from vla.data.dataset import Dataset
from vla.data.member import member
from vla.data.pixels import PixelGrids, cell_means
from vla.data.tokenizer import ByteTokenizer
from vla.run_options import TrainingOptions
from vla.training.train import train


@dataclass
class Clip:
    key: object
    camera: str
    metres: np.ndarray

    @property
    def disparity_quantiles(self):
        if not self.metres.any():
            return (math.nan,) * len(QUANTILES)
        return tuple(np.quantile(1 / self.metres, QUANTILES).tolist())

    def read(self, start, stop):
        return DepthClip.of(self.metres[start:stop], DepthKind.METRES)


class FakeDepth:
    fingerprint, cameras, size, transform = "depth", ("main",), (8, 8), ImageTransform(size=(8, 8))
    content, kind = "as first made", DepthKind.METRES

    def __init__(self, episodes):
        rng = np.random.default_rng(0)
        self._clips = [
            Clip(episode.key, "main", rng.uniform(0.5, 3, (len(episode), 8, 8)).astype("f4"))
            for episode in map(episodes.episode, range(len(episodes.lengths)))
        ]

    def missing(self):
        return []

    def failures(self):
        return []

    def parts(self):
        return fakes.parts({clip.key: len(clip.metres) for clip in self._clips})

    def clips(self):
        return iter(self._clips)


def test_cell_means_ignore_invalid_pixels():
    values = np.arange(16, dtype=np.float32).reshape(4, 4)
    valid = np.ones((4, 4), bool)
    valid[0, 0] = valid[2:, 2:] = False
    assert np.allclose(cell_means(values, valid, (2, 2)), [[10 / 3, 4.5], [10.5, 0]])


def test_regression_learns(micro, codebook, tmp_path):
    config = micro(model__depth__target="pixels", train__steps=30, train__depth_weight=1.0)
    episodes = fakes.FakeEpisodes(count=1, steps=7)
    depth = FakeDepth(episodes)
    grids = PixelGrids(depth, codebook.fingerprint, Normalisation(), (4, 4))
    joined = member("toy", episodes, grids, config, codebook=codebook.fingerprint)
    data = Dataset([joined], config, ByteTokenizer())
    row = {n: np.zeros(shape, dtype) for n, (shape, dtype) in data.fields().items()}
    data.fill(row, 2, 0, 0)
    disparity = 1 / depth._clips[0].metres
    low, high = np.quantile(disparity, (0.005, 0.995))
    normal = np.clip((disparity[2] - low) / (high - low), -0.5, 1.5)
    expected = normal.reshape(4, 2, 4, 2).mean(axis=(1, 3)).reshape(1, -1)
    assert np.allclose(row["depth_BMK"], expected, atol=1e-5)

    reports = []
    options = TrainingOptions(loader_threads=0, log_every=1)
    train(config, data, tmp_path, options, codebook=codebook, on_step=reports.append)
    assert reports[-1]["depth"] < 0.5 * reports[0]["depth"]


def test_sizes_that_do_not_divide_are_refused(codebook):
    with pytest.raises(ConfigError, match="is not divisible"):
        PixelGrids(FakeDepth(fakes.FakeEpisodes()), "x", Normalisation(), (3, 3))


@pytest.mark.parametrize(
    "rule",
    [
        Normalisation("metric", lo=0.25, hi=5.0),
        Normalisation("dataset", lo=0.0, hi=9.0, kind="metres"),
    ],
)
def test_a_fixed_range_is_of_one_kind_of_depth(rule):
    """Numbers without a unit fit into a range of metres, and mean nothing there."""
    depth = FakeDepth(fakes.FakeEpisodes())
    book = SimpleNamespace(fingerprint="x", size=(8, 8), grid=(4, 4), normalisation=rule)
    encoder = SimpleNamespace(prepare=None, codes_of=None)
    for targets in (
        lambda: PixelGrids(depth, "x", rule, (4, 4)),
        lambda: DepthCrops(depth, book, encoder),
    ):
        depth.kind = DepthKind.METRES
        targets()
        depth.kind = DepthKind.DISPARITY
        with pytest.raises(DepthKindError, match="is of depth in metres, this is disparity"):
            targets()


def test_depth_without_a_range_is_left_out_before_the_training(micro):
    """As of codes, which there are none of: it would end the training at its first sample."""
    config, episodes = micro(model__depth__target="pixels"), fakes.FakeEpisodes(count=4)
    depth = FakeDepth(episodes)
    depth._clips[1].metres[:] = 2.0
    depth._clips[3].metres[:] = 0.0  # not measured
    grids = PixelGrids(depth, "c0debook", Normalisation(), (4, 4))
    joined = member("toy", episodes, grids, config, codebook="c0debook")
    assert (joined.episodes_used.tolist(), joined.left_out) == ([0, 2], 2)
    data = Dataset([joined], config, ByteTokenizer())
    row = {n: np.zeros(shape, dtype) for n, (shape, dtype) in data.fields().items()}
    for number in range(len(data)):
        data.fill(row, number, 0, 0)
    fixed = PixelGrids(depth, "c0debook", Normalisation("metric", lo=0.25, hi=5.0), (4, 4))
    assert fixed.without_range(("main",)) == set()


def test_stored_codes_are_no_pixels(micro):
    episodes = fakes.FakeEpisodes()
    config = micro(model__depth__target="pixels")
    with pytest.raises(ConfigError, match="pixels"):
        member("toy", episodes, fakes.FakeCodes(episodes, grid=4), config, codebook="c0debook")


def test_there_is_no_target_of_an_absent_camera(micro):
    episodes = fakes.FakeEpisodes()
    depth = FakeDepth(episodes)
    gone = depth._clips.pop(0)
    grids = PixelGrids(depth, "book", Normalisation(), (4, 4))
    assert grids.find_grid(gone.key, "main") is None
    there = grids.find_grid(episodes.episode(1).key, "main")
    assert there.codes[2].shape == (4, 4)
