"""The pasted part hides what is behind it, and changes nothing else."""

import numpy as np
import pytest

from depthtok.normalisation import HIGH, Normalisation
from tests.vqvae.synthetic import tiny
from vqvae.config import TrainingConfig
from vqvae.data.frames import DepthCache
from vqvae.data.paste import paste
from vqvae.training.train import TokeniserTrainer


def crops(seed):
    rng = np.random.default_rng(seed)
    return [
        (rng.random((64, 64), np.float32), rng.random((64, 64)) < share) for share in (0.9, 0.8)
    ]


def pasted(image, valid, other, seen, cell, rng):
    """One crop, compared at every pixel, as the first version did it."""
    rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
    row, column = rng.uniform(0, image.shape)
    part = np.ones(image.shape, bool)
    for _ in range(rng.integers(3, 7)):
        turn, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.25 * cell, 1.5 * cell)
        part &= np.cos(turn) * (rows - row) + np.sin(turn) * (columns - column) < distance
    if not part.any():
        return image, valid
    nearer = other + np.float32(max(0.0, (image - other)[part].max()) * rng.random())
    shown = part & seen & (nearer > image) & (nearer <= HIGH)
    return np.where(shown, nearer, image), valid | shown


@pytest.mark.parametrize(("side", "cell"), [(64, 16), (24, 8), (20, 1), (7, 4), (256, 32)])
def test_a_batch_is_pasted_as_its_crops_one_by_one(side, cell):
    """To the bit, also where parts are empty (cells of 1 px) and sides are no powers of two."""
    rng = np.random.default_rng(side)
    images, others = rng.random((2, 40, side, side), np.float32)
    valid, visible = rng.random((2, 40, side, side)) < 0.8
    others[:5] += 1  # already nearer than all
    draws = [[np.random.default_rng([side, i]) for i in range(40)] for _ in range(2)]
    want = images, valid
    for _ in range(3):
        images, valid = paste(images, valid, others, visible, cell, draws[0])
        one_by_one = map(pasted, *want, others, visible, [cell] * 40, draws[1])
        want = tuple(map(np.stack, zip(*one_by_one, strict=True)))
        assert images.dtype == np.float32
        assert np.array_equal(images, want[0])
        assert np.array_equal(valid, want[1])
    assert [a.random() for a in draws[0]] == [b.random() for b in draws[1]]


def test_a_part_is_nearer_than_what_it_hides_and_the_rest_stays():
    changed, hidden = 0, []
    for seed in range(40):
        (image, valid), (other, visible) = crops(seed)
        batch = (x[None] for x in (image, valid, other, visible))
        (pasted,), (good,) = paste(*batch, 16, [np.random.default_rng(seed)])
        part = pasted != image
        assert (pasted[part] > image[part]).all()
        assert (pasted <= HIGH).all()
        assert visible[part].all()
        assert np.array_equal(good, valid | part)
        offset = (pasted - other)[part]
        assert not part.any() or np.ptp(offset) < 1e-6  # moved as a whole
        assert not part.any() or offset.min() > -1e-6  # towards the camera
        changed += part.any()
        hidden.append(part.mean())
    assert changed > 30
    assert 0.01 < np.mean(hidden) < 0.4


def test_every_crop_gets_as_many_parts_as_said(tmp_path, source):
    cache = DepthCache.build(tmp_path, [source], Normalisation(), 64, 0)
    config = TrainingConfig(batch=100, crop=32)
    plain, one, many = (cache.batch(config, 8, (0, 3), parts=n).images for n in (0, 1, 4))
    assert (one >= plain).all()
    assert (many >= one).all()
    differ = [(images != plain).any((1, 2, 3)).mean() for images in (one, many)]
    assert 0.5 < differ[0] < differ[1]


def test_the_last_steps_see_the_data_alone(tmp_path, source, monkeypatch):
    cache = DepthCache.build(tmp_path, [source], Normalisation(), 64, 0)
    trainer = TokeniserTrainer(tiny(10).with_training(paste=3, paste_until=0.4), cache, "cpu")
    asked, plain = {}, cache.batch

    def batch(config, cell, draw, *given, parts):
        asked[draw] = parts
        return plain(config, cell, draw, *given, parts=parts)

    monkeypatch.setattr(cache, "batch", batch)
    while trainer.step < 10:
        trainer.advance()
    steps = {number: parts for (stream, number), parts in asked.items() if stream == 0}
    assert steps == {step: 3 if step < 4 else 0 for step in range(10)}
