"""The pasted part hides what is behind it, and changes nothing else."""

import numpy as np

from depthtok.normalisation import HIGH, Normalisation
from tests.vqvae.synthetic import tiny
from vqvae.config import TrainingConfig
from vqvae.frames import FrameCache
from vqvae.paste import paste
from vqvae.train import Trainer


def crops(seed):
    rng = np.random.default_rng(seed)
    return [
        (rng.random((64, 64), np.float32), rng.random((64, 64)) < share) for share in (0.9, 0.8)
    ]


def test_a_part_is_nearer_than_what_it_hides_and_the_rest_stays():
    changed, hidden = 0, []
    for seed in range(40):
        (image, valid), (other, seen) = crops(seed)
        made, good = paste(image, valid, other, seen, 16, np.random.default_rng(seed))
        part = made != image
        assert (made[part] > image[part]).all()
        assert (made <= HIGH).all()
        assert seen[part].all()
        assert np.array_equal(good, valid | part)
        offset = (made - other)[part]
        assert not part.any() or np.ptp(offset) < 1e-6  # moved as a whole
        assert not part.any() or offset.min() > -1e-6  # towards the camera
        changed += part.any()
        hidden.append(part.mean())
    assert changed > 30
    assert 0.01 < np.mean(hidden) < 0.4


def test_every_crop_gets_as_many_parts_as_said(tmp_path, source):
    cache = FrameCache.build(tmp_path, [source], Normalisation(), 64, 0)
    config = TrainingConfig(batch=100, crop=32)
    plain, one, many = (cache.batch(config, 8, (0, 3), parts=n).images for n in (0, 1, 4))
    assert (one >= plain).all()
    assert (many >= one).all()
    differ = [(images != plain).any((1, 2, 3)).mean() for images in (one, many)]
    assert 0.5 < differ[0] < differ[1]


def test_the_last_steps_see_the_data_alone(tmp_path, source, monkeypatch):
    cache = FrameCache.build(tmp_path, [source], Normalisation(), 64, 0)
    trainer = Trainer(tiny(10).with_training(paste=3, paste_until=0.4), cache, "cpu")
    asked = []
    plain = cache.batch
    monkeypatch.setattr(
        cache, "batch", lambda *given, parts: asked.append(parts) or plain(*given, parts=parts)
    )
    while trainer.step < 10:
        trainer.advance()
    assert [parts for parts in asked if parts == 0] == [0] * 6
    assert asked[-6:] == [0] * 6
    assert set(asked[:-6]) == {3}
