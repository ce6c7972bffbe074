from dataclasses import replace

import numpy as np
import pytest

from depthtok.data import DepthClip, DepthKind
from depthtok.errors import DepthKindError, SourceError
from depthtok.stores.depth import ClipQuantiles, DepthEncoding, array_specs, pack, unpack

METRES, DISPARITY = DepthKind.METRES, DepthKind.DISPARITY
RELATIVE = DepthKind.RELATIVE_DEPTH


def test_millimetres_are_exact():
    metres = (np.arange(1, 65_536, dtype=np.float64) / 1000).astype(np.float32).reshape(1, 1, -1)
    encoding = DepthEncoding.UINT16_MM
    unpacked = unpack(pack(DepthClip.of(metres, METRES), encoding), encoding, METRES)
    np.testing.assert_array_equal(unpacked.values, metres)


@pytest.mark.parametrize("encoding", list(DepthEncoding))
def test_invalid_pixels_stay_invalid(encoding):
    values = np.float32([[[np.nan, -1, 0, np.inf, 1, 0.0001]]])
    clip = DepthClip.of(values, METRES)
    unpacked = unpack(pack(clip, encoding), encoding, METRES)
    assert unpacked.valid.tolist() == [[[False, False, False, False, True, True]]]
    assert (unpacked.values[~unpacked.valid] == 0).all()
    assert np.isfinite(unpacked.values).all()


def test_half_precision_keeps_its_promise():
    values = np.random.default_rng(0).uniform(1e-3, 6e4, (1, 100, 100)).astype(np.float32)
    clip = DepthClip.of(values, DISPARITY)
    unpacked = unpack(pack(clip, DepthEncoding.FLOAT16), DepthEncoding.FLOAT16, DISPARITY)
    assert np.max(np.abs(unpacked.values - values) / values) <= 2**-11


@pytest.mark.parametrize("kind", [METRES, RELATIVE])
def test_the_smallest_distance_is_not_rounded_to_none(kind):
    clip = DepthClip.of(np.float32([[[1e-9, 2e-8, 1e-3, 1]]]), kind)
    counter, packed = ClipQuantiles(DepthEncoding.FLOAT16), pack(clip, DepthEncoding.FLOAT16)
    counter.add(packed)
    unpacked = unpack(packed, DepthEncoding.FLOAT16, kind)
    quantiles = tuple(counter.values().tolist())
    disparity = replace(unpacked, quantiles=quantiles).to_disparity()
    assert unpacked.valid.all()
    assert disparity.values[0, 0, :2].tolist() == [2**24, 2**24]
    assert disparity.quantiles[-1] == 2**24
    assert list(disparity.quantiles) == sorted(disparity.quantiles)


def test_what_does_not_fit_is_refused():
    far = DepthClip.of(np.float32([[[70.0]]]), METRES)
    with pytest.raises(SourceError, match="does not fit"):
        pack(far, DepthEncoding.UINT16_MM)
    with pytest.raises(SourceError, match="does not fit"):
        pack(DepthClip.of(np.float32([[[-3.0]]]), DISPARITY), DepthEncoding.FLOAT16)
    with pytest.raises(DepthKindError):
        pack(DepthClip.of(np.float32([[[3.0]]]), DISPARITY), DepthEncoding.UINT16_MM)


def test_millimetres_called_metres_are_suspected():
    with pytest.raises(SourceError) as caught:
        pack(DepthClip.of(np.float32([[[677.0, 3069.0]]]), METRES), DepthEncoding.UINT16_MM)
    assert caught.value.problem == (
        "depth from 677 to 3069 does not fit the encoding uint16_mm (0 to 65.5354). Millimetres "
        "called metres (depth_unit in the schema)? 0.677 to 3.07 m then"
    )
    for far in (70.0, 30_000.0):  # outdoors; of no room in millimetres either
        with pytest.raises(SourceError) as caught:
            pack(DepthClip.of(np.float32([[[3.0, far]]]), METRES), DepthEncoding.UINT16_MM)
        assert caught.value.problem.endswith("(0 to 65.5354)")


def test_quantiles_of_nothing_are_not_numbers():
    assert np.isnan(ClipQuantiles(DepthEncoding.UINT16_MM).values()).all()


def test_cameras_with_twin_names_have_arrays_of_their_own():
    names = ["café", "cafe\u0301", "a/b", "a\\b", "zarr.json"]
    assert len(array_specs(names, (4, 4), DepthEncoding.FLOAT16)) == len(names) + 1


def test_disparity_of_relative_depth_is_one_over_depth_and_the_chosen_shift():
    depth = np.float32([[[1.0, 3.0, 0.0, np.nan]]])
    clip = DepthClip.of(depth, RELATIVE, shift=1.0)
    assert clip.valid.tolist() == [[[True, True, False, False]]]
    disparity = clip.to_disparity()
    assert disparity.kind is DISPARITY
    np.testing.assert_array_equal(disparity.values, np.float32([[[0.5, 0.25, 0, 0]]]))
    plain = DepthClip.of(depth, RELATIVE).to_disparity()
    np.testing.assert_array_equal(plain.values, np.float32([[[1, 1 / 3, 0, 0]]]))
    assert DepthClip.of(depth, METRES, shift=1.0).to_disparity().values[0, 0, 0] == 1


def test_quantiles_of_relative_depth_turn_over_with_the_shift():
    clip = replace(DepthClip.of(np.float32([[[1.0]]]), RELATIVE, shift=1.0), quantiles=(1.0, 3.0))
    assert clip.to_disparity().quantiles == (0.25, 0.5)
