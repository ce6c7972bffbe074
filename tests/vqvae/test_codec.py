from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from depthtok.data import DepthClip, DepthKind
from depthtok.errors import ConfigError, DepthKindError, SourceError, WeightsError
from depthtok.normalisation import Normalisation
from depthtok.stores import codebook
from tests.vqvae.synthetic import SIZE, array_clip, scene, tiny
from tools.compact_codebook import compact
from vqvae.codec import Codec, _sticky, fill_invalid
from vqvae.model.model import Tokeniser
from vqvae.training import export


def untrained(folder, **quantizer):
    """A codebook whose vectors are k-means centres of a random encoder's latents."""
    config = tiny(**quantizer)
    model = Tokeniser(config.network, config.quantizer, seed=0)
    images = torch.rand(16, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.quantizer.initialise(model.encoder(images).flatten(0, -2), seed=0)
    meta = export.description(config, Normalisation(), demo=True)
    meta["codes"] = len(model.quantizer.vectors())
    return codebook.write(folder, export.weights_of(model), meta)


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    return Codec.load(untrained(tmp_path_factory.mktemp("book") / "cb"))


@pytest.mark.parametrize(("threads", "batch"), [(1, 1), (1, 8), (2, 3), (2, 8), (2, 80)])
def test_codes_do_not_depend_on_the_batch_nor_on_threads(codec, threads, batch):
    values = np.concatenate([scene(i, 10) for i in range(8)])
    clip = array_clip(values).depth.to_disparity()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        at_once = codec.encode(clip, (0.3, 2.0))
        torch.set_num_threads(threads)
        parts = [
            codec.encode(DepthClip.of(clip.values[i : i + batch], clip.kind), (0.3, 2.0))
            for i in range(0, 80, batch)
        ]
    finally:
        torch.set_num_threads(before)
    assert at_once.shape == (80, 8, 8)
    assert at_once.dtype == np.uint8
    assert np.array_equal(np.concatenate(parts), at_once)


def test_whole_millimetres_give_the_codes_of_floats(codec):
    metres = (np.round(scene(0) * 1000) / 1000).astype(np.float32)
    stored = np.round(metres * 1000).astype(np.uint16).astype(np.float32) / np.float32(1000)
    codes = [
        codec.encode(DepthClip.of(values, DepthKind.METRES).to_disparity(), (0.3, 2.0))
        for values in (metres, stored)
    ]
    assert np.array_equal(*codes)


def test_layout_of_the_array_does_not_matter(codec):
    disparity = array_clip(scene(1)).depth.to_disparity()
    turned = replace(disparity, values=np.asfortranarray(disparity.values))
    assert np.array_equal(codec.encode(disparity, (0.3, 2.0)), codec.encode(turned, (0.3, 2.0)))


def test_what_must_not_become_codes(codec):
    good = array_clip(scene(0)).depth
    with pytest.raises(DepthKindError):
        codec.encode(good, (0.3, 2.0))
    with pytest.raises(SourceError, match="px"):
        codec.encode(DepthClip.of(np.ones((1, 32, 32)), DepthKind.DISPARITY), (0.3, 2.0))
    with pytest.raises(SourceError, match="constant"):
        codec.encode(good.to_disparity(), (1.0, 1.0))
    with pytest.raises(SourceError, match="finite"):
        codec.encode(good.to_disparity(), (0.3, float("nan")))
    holes = scene(0)
    holes[2] = np.nan
    with pytest.raises(SourceError, match="frame 2"):
        codec.encode(DepthClip.of(holes, DepthKind.METRES).to_disparity(), (0.3, 2.0))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_wrongly_marked_valid_has_no_codes(codec, bad):
    values = np.full((1, SIZE, SIZE), 0.5, np.float32)
    values[0, 3, 4] = bad
    clip = DepthClip(values, np.ones(values.shape, bool), DepthKind.DISPARITY)
    with pytest.raises(SourceError, match="not finite"):
        codec.encode(clip, (0.0, 1.0))


def test_a_fixed_range_is_of_one_kind():
    metres = Normalisation("metric", lo=0.2, hi=5.0)
    metres.require(DepthKind.METRES)
    with pytest.raises(DepthKindError, match="of depth in metres, this is disparity"):
        metres.require(DepthKind.DISPARITY)
    estimated = Normalisation("dataset", lo=0.2, hi=5.0, kind="disparity")
    assert Normalisation.from_json(estimated.to_json()) == estimated
    with pytest.raises(DepthKindError):
        estimated.require(DepthKind.METRES)
    Normalisation().require(DepthKind.METRES)


def test_nan_and_infinity_never_reach_the_network(codec):
    values = scene(0)
    values[:, 3:9, 4:20] = np.nan
    values[0, 30] = np.inf
    values[1, 30] = -1
    images = codec.prepare(DepthClip.of(values, DepthKind.METRES).to_disparity(), (0.3, 2.0))
    assert np.isfinite(images).all()


def test_invalid_pixels_are_filled_from_the_left_then_right_then_above_then_below():
    image = np.array([[[0, 0, 0], [1, 9, 2], [9, 5, 9], [9, 9, 9]]], np.float32)
    valid = np.array([[[0, 0, 0], [1, 0, 1], [0, 1, 0], [0, 0, 0]]], bool)
    filled = fill_invalid(image, valid, range(1))
    assert filled[0].tolist() == [[1, 1, 2], [1, 1, 2], [5, 5, 5], [5, 5, 5]]


def test_decode_gives_images_and_refuses_foreign_codes(codec):
    decoded = codec.decode(np.zeros((3, 8, 8), np.uint8))
    assert decoded.shape == (3, SIZE, SIZE)
    assert decoded.dtype == np.float32
    with pytest.raises(SourceError, match="code 200"):
        codec.decode(np.full((1, 8, 8), 200, np.uint8))
    back = codec.decode_disparity(np.zeros((1, 8, 8), np.uint8), (1.0, 3.0))
    np.testing.assert_allclose(back, decoded[:1] * 2 + 1, rtol=1e-6)


def test_sticky_codes_flip_less_and_go_on_over_blocks(codec):
    noise = np.random.default_rng(0).normal(0, 0.004, (24, SIZE, SIZE)).astype(np.float32)
    clip = DepthClip.of(1 / scene(0, 1) + noise, DepthKind.DISPARITY)
    bounds = (0.3, 2.0)
    plain, calm = (codec.encode(clip, bounds, sticky=sticky) for sticky in (0.0, 0.5))
    assert (plain[1:] != plain[:-1]).mean() > (calm[1:] != calm[:-1]).mean()
    first = codec.encode(DepthClip.of(clip.values[:10], clip.kind), bounds, sticky=0.5)
    second = codec.encode(
        DepthClip.of(clip.values[10:], clip.kind), bounds, sticky=0.5, previous=first[-1]
    )
    assert np.array_equal(np.concatenate([first, second]), calm)


def test_sticky_codes_stay_within_a_share_of_the_squared_distance(codec):
    """Two latents on the line between two codes: the share is of squares, not of distances."""
    quantizer = codec.model.quantizer
    first, second = quantizer.targets()[:2]
    near_second = [second + (first - second) * part for part in (0.47, 0.46)]  # 1.27, 1.38 of 1
    for latent, code in zip(near_second, (0, 1), strict=True):
        table = codec._table(latent.expand(1, 1, 1, -1)).numpy()[..., :2]
        previous = np.zeros((1, 1), np.uint8)
        assert _sticky(table, 0.3, previous).tolist() == [[code]]
        assert _sticky(table, 0.0, previous).tolist() == [[1]]


@pytest.mark.parametrize("kind", ["gradient", "simvq", "fsq"])
def test_every_quantiser_survives_its_directory(tmp_path, kind):
    codec = Codec.load(untrained(tmp_path / "cb", kind=kind, levels=(4, 4, 2)))
    clip = array_clip(scene(0)).depth.to_disparity()
    codes = codec.encode(clip, (0.3, 2.0))
    assert codes.max() < len(codec.codebook.vectors)
    vectors = codec.model.quantizer.vectors().detach().numpy()
    assert np.array_equal(codec.codebook.vectors, vectors)


def test_a_continuous_codebook_loads_and_has_no_codes(tmp_path):
    codec = Codec.load(untrained(tmp_path / "cb", kind="none"))
    with pytest.raises(ConfigError, match="no codes"):
        codec.encode(array_clip(scene(0)).depth.to_disparity(), (0.3, 2.0))


def test_a_compact_copy_is_half_as_large_and_a_codebook_of_its_own(tmp_path, codec):
    path = compact(codec.codebook.path, tmp_path / "small")
    small = Codec.load(path)
    sizes = [
        (book.path / codebook.WEIGHTS).stat().st_size for book in (small.codebook, codec.codebook)
    ]
    assert sizes[0] < 0.65 * sizes[1]
    assert small.codebook.fingerprint != codec.codebook.fingerprint
    vectors = small.model.quantizer.vectors()
    assert vectors.dtype == torch.float32
    assert np.array_equal(small.codebook.vectors, vectors.numpy())
    clip = array_clip(scene(0)).depth.to_disparity()
    same = small.encode(clip, (0.3, 2.0)) == codec.encode(clip, (0.3, 2.0))
    assert same.mean() > 0.95


def test_weights_that_do_not_fit_are_refused(tmp_path):
    path = untrained(tmp_path / "cb")
    meta = json.loads((path / codebook.META).read_text())
    meta["network"]["encoder_blocks"] = 3
    codebook.write_meta(path, meta)
    with pytest.raises(WeightsError):
        Codec.load(path)
