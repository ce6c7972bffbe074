from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from depthtok.data import DepthKind
from depthtok.errors import ConfigError, DepthKindError, SourceError
from depthtok.normalisation import Normalisation
from tests.vqvae.synthetic import SIZE, array_clip, scene
from vqvae.config import TrainingConfig
from vqvae.data.clips import ClipSource
from vqvae.data.frames import DepthCache, cache_key, pack, unpack
from vqvae.data.ranges import fit_normalisation
from vqvae.data.shares import shares_of

TRAINING = TrainingConfig(batch=12, crop=32)


def build(folder, sources, limit=0, rule=Normalisation()):  # noqa: B008
    return DepthCache.build(folder, sources, rule, SIZE, limit)


def keys(sources):
    return [{str(clip.key) for clip in source.clips} for source in sources]


def test_packing_keeps_normalised_disparity_and_the_mask():
    images = np.linspace(-0.5, 1.5, 4096, dtype=np.float32).reshape(1, 64, 64)
    valid = np.random.default_rng(0).random(images.shape) < 0.9
    packed = pack(images, valid)
    assert packed.dtype == np.uint16
    assert np.abs(unpack(packed) - images).max() < 4e-5
    assert np.array_equal(packed < 1 << 15, valid)


def test_the_cache_is_built_once_and_again_for_other_data(tmp_path, source):
    cache = build(tmp_path, [source])
    assert cache.frames.shape == (72, SIZE, SIZE)
    stamp = (tmp_path / "frames.u16").stat().st_mtime_ns
    build(tmp_path, [source])
    assert (tmp_path / "frames.u16").stat().st_mtime_ns == stamp
    assert len(build(tmp_path, [replace(source, clips=source.clips[:2])])) == 24


def test_a_limit_spreads_over_all_clips(tmp_path, source):
    assert len(build(tmp_path, [source], limit=18)) == 18
    assert len(build(tmp_path, [source], limit=3)) == 3  # fewer than there are clips


def test_a_batch_depends_on_the_seed_and_the_draw_alone(tmp_path, source):
    cache = build(tmp_path, [source])
    first, second = (cache.batch(TRAINING, 8, (0, 5)) for _ in range(2))
    assert np.array_equal(first.images, second.images)
    assert first.images.shape == (12, 1, 32, 32)
    assert not np.array_equal(first.images, cache.batch(TRAINING, 8, (0, 6)).images)


@pytest.mark.parametrize("pasted", [0, 2])
def test_ranks_share_one_batch(tmp_path, source, pasted):
    cache = build(tmp_path, [source])
    full_batch = cache.batch(TRAINING, 8, (0, 1), parts=pasted)
    parts = [cache.batch(TRAINING, 8, (0, 1), rank, 2, parts=pasted) for rank in range(2)]
    mixed = np.stack([part.images for part in parts], axis=1).reshape(full_batch.images.shape)
    assert np.array_equal(mixed, full_batch.images)


def test_weights_decide_how_often_a_source_is_drawn(tmp_path):
    near, far = (np.full((4, SIZE, SIZE), z, np.float32) for z in (1.0, 2.0))
    near[:, :8], far[:, 8:] = 3.0, 3.0  # crops tell them apart by their mean
    sources = [
        ClipSource("near", "n", [array_clip(near)], weight=3.0),
        ClipSource("far", "f", [array_clip(far)], weight=0.0),
    ]
    cache = build(tmp_path, sources)
    images = cache.batch(replace(TRAINING, crop=SIZE, batch=50), 8, (0, 0)).images
    assert (images.mean((1, 2, 3)) > 0.5).all()


def sized(*frames_and_weights):
    values = np.linspace(0.5, 3, SIZE * SIZE, dtype=np.float32).reshape(SIZE, SIZE)
    return [
        ClipSource(f"s{i}", "f", [array_clip(np.repeat(values[None], frames, 0))], weight)
        for i, (frames, weight) in enumerate(frames_and_weights)
    ]


@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_frames_of_equal_weights_are_spread_over_end_to_end(weight):
    shares = shares_of(sized((7, weight), (0, weight), (30, weight), (5, weight)), 11)
    starts = [0, 7, 7, 37]
    numbers = np.concatenate([s.numbers + start for s, start in zip(shares, starts, strict=True)])
    assert numbers.tolist() == np.linspace(0, 41, 11).astype(int).tolist()
    assert [share.frames for share in shares] == [2, 0, 8, 1]
    assert {share.weight for share in shares} == {weight}


@pytest.mark.parametrize(
    ("sizes", "limit", "expected"),
    [
        (((10, 9.0), (90, 1.0)), 20, [10, 10]),
        (((4, 100.0), (50, 2.0), (100, 1.0)), 44, [4, 20, 20]),  # what it cannot fill goes on
        (((1000, 0.0), (30, 1.0), (60, 1.0)), 30, [0, 10, 20]),
        (((1000, 0.0), (30, 1.0)), 40, [0, 30]),
        (((1, 0.1), (1000, 1.0)), 10, [0, 10]),
    ],
)
def test_a_limit_is_shared_by_frames_and_weight(sizes, limit, expected):
    sources = sized(*sizes)
    shares = shares_of(sources, limit)
    assert [share.frames for share in shares] == expected
    assert [len(share.numbers) for share in shares] == expected
    for share, (frames, weight) in zip(shares, sizes, strict=True):
        if share.frames:  # a source is drawn as often as without a limit
            assert share.frames * share.weight == pytest.approx(frames * weight)
            assert len({*share.numbers}) == share.frames
            assert 0 <= min(share.numbers) <= max(share.numbers) < frames


def test_what_is_cached_is_the_share_and_its_key_says_so(tmp_path):
    few, many = sized((4, 12.0), (48, 1.0))
    cache = build(tmp_path, [few, many], limit=10)
    assert [(s["frames"], s["weight"]) for s in cache.index["sources"]] == [(4, 12.0), (6, 8.0)]
    keys = [
        [cache_key(sources, Normalisation(), SIZE, limit, by_weight=rule) for rule in (True, False)]
        for sources, limit in (([few, many], 10), ([few, many], 52), ([few, few], 6), ([many], 6))
    ]
    assert [now == before for now, before in keys] == [False, True, True, True]
    former = DepthCache.build(tmp_path, [few, many], Normalisation(), SIZE, 10, by_weight=False)
    assert [(s["frames"], s["weight"]) for s in former.index["sources"]] == [(1, 12.0), (9, 1.0)]


def test_a_negative_weight_is_refused(source):
    with pytest.raises(ConfigError, match="weight"):
        replace(source, weight=-1.0)


def test_broken_clips_are_left_out_and_listed(tmp_path, source):
    constant = array_clip(np.ones((3, SIZE, SIZE), np.float32), "constant")
    empty = array_clip(np.full((3, SIZE, SIZE), np.nan, np.float32), "empty")
    cache = build(tmp_path, [replace(source, clips=[*source.clips, constant, empty])])
    assert len(cache) == 72
    assert [item[0] for item in cache.index["skipped"]] == [
        "synthetic|constant",
        "synthetic|empty",
    ]
    with pytest.raises(SourceError, match="no clip can be used for training"):
        build(tmp_path, [replace(source, clips=[constant, empty])])


def test_another_size_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="takes 64x64"):
        build(tmp_path, [ClipSource("s", "f", [array_clip(scene(0, 2, 32))])])


def test_normalisations_take_their_constants_from_training_clips(source):
    rule = fit_normalisation("dataset", (0.0, 1.0), [source])
    ranges = [Normalisation().range_of(clip.disparity_quantiles) for clip in source.clips]
    assert rule.lo == min(r[0] for r in ranges)
    assert rule.hi == max(r[1] for r in ranges)
    assert fit_normalisation("metric", (0.2, 4.0), [source]).range_of(()) == (0.2, 4.0)
    relative = array_clip(scene(0), kind=DepthKind.DISPARITY)
    with pytest.raises(DepthKindError):
        fit_normalisation("metric", (0.2, 4.0), [replace(source, clips=[relative])])
