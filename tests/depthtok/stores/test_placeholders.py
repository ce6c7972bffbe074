"""Pixels without a measurement are told from depth by their value, over the whole clip."""

import json

import numpy as np
import pytest

from depthtok.sources.pixels import PixelFormat
from depthtok.stores import placeholders
from depthtok.stores.episodes import View
from depthtok.stores.placeholders import ClipDepth, NotMeasured, usual


def slope(dtype, low, high, frames=40, side=16):
    """Every frame a slope from `low` to `high`, in stored numbers."""
    rows = np.linspace(low, high, side * side).reshape(side, side)
    return np.repeat(rows[None], frames, 0).astype(dtype)


def clip(stored, scale_m=0.001, rule=NotMeasured(), reads=None):  # noqa: B008
    def decode(start, stop):
        if reads is not None:
            reads.extend(range(start, stop))
        return stored[start:stop]

    return ClipDepth(len(stored), decode, scale_m, stored.dtype.name, rule)


def whole(stored, block=32, **more):
    reader = clip(stored, **more)
    frames = [reader.metres(a, min(a + block, len(stored))) for a in range(0, len(stored), block)]
    return np.concatenate(frames), reader


@pytest.mark.parametrize(
    ("dtype", "low", "high", "value", "scale_m"),
    [
        ("uint16", 400, 1200, 65535, 0.001),
        ("uint16", 4000, 50000, 65535, 0.0001),
        ("int16", 400, 1200, 32767, 0.001),
        ("uint8", 20, 200, 255, 0.01),
        ("int32", 400, 5000, 65535, 0.001),
        ("int32", 400, 5000, 2**31 - 1, 0.001),
        ("uint32", 400, 5000, 2**32 - 1, 0.001),
        ("float16", 0.4, 3.0, 65504, 1.0),
        ("float32", 0.4, 3.0, 65504, 1.0),
        ("float32", 0.4, 3.0, np.float32(65535) / np.float32(1000), 1.0),
        ("float32", 0.4, 3.0, np.float32(65535) * np.float32(0.001), 1.0),
        ("float32", 400, 3000, 1e10, 0.001),
        ("float32", 0.4, 3, 1e38, 1.0),
        ("float64", 0.4, 3, 1e15, 1.0),
        ("float32", 0.4, 3.0, np.finfo(np.float32).max, 1.0),
        ("float64", 0.4, 3.0, np.finfo(np.float64).max, 1.0),
    ],
)
def test_the_usual_placeholders_are_no_depth(dtype, low, high, value, scale_m):
    stored = slope(dtype, low, high)
    stored[:, 3:6, 2:9] = value
    metres, reader = whole(stored, scale_m=scale_m)
    assert not metres[:, 3:6, 2:9].any()
    rest = np.ones(metres.shape, bool)
    rest[:, 3:6, 2:9] = False
    np.testing.assert_allclose(metres[rest], stored[rest].astype(float) * scale_m, rtol=1e-6)
    assert list(reader.tally.values()) == [40 * 21]
    assert reader.pixels == stored.size


def test_a_surface_that_reaches_the_end_of_the_range_is_depth():
    stored = slope("uint16", 30000, 65535)
    metres, reader = whole(stored, scale_m=0.0001)
    assert (metres > 0).all()
    assert metres.max() == np.float32(6.5535)
    assert reader.tally == {}


def test_some_noise_beside_a_placeholder_does_not_make_it_depth():
    stored = slope("uint16", 400, 1200)
    stored[:, :4] = 65535
    stored[5, 8, :6] = 64000  # 6 pixels beside 2560
    assert not whole(stored)[0][:, :4].any()
    stored[5, 8:10] = 64000  # 32
    assert whole(stored)[0][:, :4].all()


@pytest.mark.parametrize("first", [0, 7, 39])
@pytest.mark.parametrize("block", [1, 5, 32, 64])
def test_how_a_clip_is_cut_does_not_matter(first, block):
    """One frame is a surface at the very end of the range, and so no frame has placeholders."""
    stored = slope("uint16", 400, 1200)
    stored[first, 0, 0] = 65535
    alone, _ = whole(stored, block=block)
    assert not alone[first, 0, 0]
    stored[20] = np.linspace(60000, 65000, 256).reshape(16, 16)
    together, _ = whole(stored, block=block)
    assert together[first, 0, 0] == np.float32(65.535)
    np.testing.assert_array_equal(clip(stored).metres(first, first + 1), together[first:][:1])


def test_frames_are_decoded_once_and_only_once(monkeypatch):
    stored, reads = slope("uint16", 400, 1200, frames=70), []
    whole(stored, reads=reads)
    assert reads == list(range(70))
    stored[:, 0] = 65535
    reads.clear()
    whole(stored, reads=reads)
    assert reads == list(range(70))
    monkeypatch.setattr(placeholders, "AHEAD", 0)  # memory is short: decoded twice, and the same
    reads.clear()
    short, _ = whole(stored, reads=reads)
    assert sorted(reads) == sorted([*range(70), *range(32, 70)])
    np.testing.assert_array_equal(short, np.where(stored < 65535, stored * 1e-3, 0).astype("f4"))


def test_a_clip_of_nothing_else_has_no_depth():
    metres, reader = whole(np.full((3, 4, 4), 65535, np.uint16))
    assert not metres.any()
    assert reader.tally == {"65535": 48}


def test_what_the_schema_says_is_no_depth_wherever_it_lies():
    stored = slope("uint16", 400, 1200)
    stored[:, 0], stored[:, 1], stored[:, 2] = 1000, 65535, 60001
    rule = NotMeasured(values=(1000, 65535), max_m=1.1)
    reads = []
    metres, reader = whole(stored, rule=rule, reads=reads)
    assert reads == list(range(40))  # nothing is left to judge by the clip
    np.testing.assert_array_equal(
        metres, np.where((stored <= 1100) & (stored != 1000), stored * 1e-3, 0).astype("f4")
    )
    beyond = int((stored[:, 2:] > 1100).sum())
    assert reader.tally == {"1000": 40 * 16, "65535": 40 * 16, "beyond 1.1 m": beyond}


def test_a_float_is_named_as_its_dtype_rounds_it():
    stored = slope("float32", 0.4, 3.0)
    stored[:, 0] = 9.9
    metres, _ = whole(stored, scale_m=1.0, rule=NotMeasured(values=(9.9,)))
    assert not metres[:, 0].any()
    assert metres[:, 1:].all()


def test_what_is_not_finite_and_what_is_not_above_zero_never_is_depth():
    stored = slope("float32", 0.4, 3.0)
    stored[:, 0, :4] = np.nan, np.inf, -np.inf, -1
    stored[:, 1, 0] = 0
    for rule in (NotMeasured(), None):
        metres, reader = whole(stored, scale_m=1.0, rule=rule)
        assert (metres == 0).sum() == 5 * 40
        assert reader.tally == {}


def test_without_a_rule_a_view_means_what_it_meant():
    stored = slope("uint16", 400, 1200)
    stored[:, 0] = 65535
    assert (whole(stored, rule=None)[0][:, 0] == np.float32(65.535)).all()


def test_a_view_keeps_its_rule_and_an_old_one_reads_as_none():
    view = View("front", "depth", PixelFormat("png", "uint16", (4, 4, 1)), 0.001)
    assert "not_measured" not in view.to_json()
    assert View.from_json(json.loads(json.dumps(view.to_json()))) == view
    ruled = View("front", "depth", view.format, 0.001, NotMeasured((65535,), 10.0))
    assert View.from_json(json.loads(json.dumps(ruled.to_json()))) == ruled


def test_the_last_usual_placeholder_is_the_dtypes_maximum():
    assert usual(np.dtype("uint16")) == (65535,)
    assert usual(np.dtype("float16")) == (65.535, 65504)
    assert usual(np.dtype("float32"))[-1] == np.finfo(np.float32).max
    assert sorted(usual(np.dtype("float64"))) == list(usual(np.dtype("float64")))
