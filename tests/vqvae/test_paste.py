"""The pasted part hides what is behind it, and changes nothing else."""

from dataclasses import replace

import numpy as np

from depthtok.normalisation import HIGH, Normalisation
from vqvae.config import TrainingConfig
from vqvae.frames import FrameCache
from vqvae.paste import paste


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
    plain, one, many = (
        cache.batch(replace(config, paste=parts), 8, (0, 3)).images for parts in (0, 1, 4)
    )
    assert (one >= plain).all()
    assert (many >= one).all()
    differ = [(images != plain).any((1, 2, 3)).mean() for images in (one, many)]
    assert 0.5 < differ[0] < differ[1]
