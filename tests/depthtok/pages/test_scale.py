"""The colours of a clip: the same for every kind of depth, and what the bar says of them."""

import numpy as np
import pytest

from depthtok.data import QUANTILES, DepthClip, DepthKind
from depthtok.normalisation import Normalisation
from depthtok.pages.scale import ColourScale, even_bar

METRES = np.linspace(0.5, 4.0, 64, dtype=np.float32).reshape(1, 8, 8)


def clip(values, kind, shift=0.0) -> DepthClip:
    quantiles = tuple(np.quantile(values, QUANTILES).tolist())
    return DepthClip(values, np.ones(values.shape, bool), kind, quantiles, shift)


def scale_of(depth: DepthClip) -> ColourScale:
    return ColourScale.of(depth.to_disparity().quantiles, depth.kind, depth.shift)


def test_depth_and_its_disparity_have_the_same_colours():
    metres, disparity = clip(METRES, DepthKind.METRES), clip(1 / METRES, DepthKind.DISPARITY)
    one, other = scale_of(metres).paint(metres), scale_of(disparity).paint(disparity)
    assert np.abs(one.astype(int) - other).max() <= 12  # a step of the map, by rounding
    near, far = one[0, 0, 0].astype(int), one[0, -1, -1].astype(int)
    assert near[0] > near[2]  # red above blue
    assert far[0] < 80


def test_the_scale_is_the_interval_that_codes_are_made_for():
    quantiles = clip(METRES, DepthKind.METRES).to_disparity().quantiles
    scale = ColourScale.of(quantiles, DepthKind.METRES)
    assert (scale.low, scale.high) == Normalisation().range_of(quantiles)


def test_the_bar_counts_in_metres():
    bar = ColourScale(0.5, 2.0, DepthKind.METRES).bar()
    assert bar.title == "Depth in metres; red is near, grey is not measured"
    assert [label for _, label in bar.ticks] == ["2 m", "1.14 m", "0.8 m", "0.615 m", "0.5 m"]
    assert bar.words.endswith("2 m is blue, 0.5 m is red")


@pytest.mark.parametrize(
    ("scale", "ends"),
    [
        (ColourScale(0.0, 2.0, DepthKind.METRES), ("far", "0.5 m")),
        (ColourScale(0.5, 2.0, DepthKind.RELATIVE_DEPTH, 0.25), ("1.75", "0.25")),
        (ColourScale(1.0, 3.0), ("1", "3")),
    ],
)
def test_the_ends_of_other_kinds(scale, ends):
    bar = scale.bar("estimated")
    assert (bar.ticks[0][1], bar.ticks[-1][1]) == ends
    assert bar.title.startswith("Estimated: ")


def test_a_clip_without_depth_is_grey():
    empty = DepthClip.of(np.zeros((1, 2, 2)), DepthKind.METRES)
    scale = ColourScale.of((float("nan"),) * len(QUANTILES), DepthKind.METRES)
    assert np.all(scale.paint(empty) == 128)


def test_an_even_bar():
    assert even_bar("e", 0, 50, " %").ticks == [
        *((0.0, "0 %"), (0.25, "12.5 %"), (0.5, "25 %"), (0.75, "37.5 %"), (1.0, "50 %"))
    ]
    assert even_bar("e", 0, 1).gradient.startswith("linear-gradient(90deg, #30123b")
