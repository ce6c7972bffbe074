"""The frame cache gives the very frames that decoding gives, and only of its own store."""

from dataclasses import replace

import numpy as np
import pytest

from depthtok.disk.temporaries import temporary_sibling
from depthtok.errors import CorruptPart, StaleStore
from tests.vla import fakes
from vla.data.dataset import Dataset
from vla.data.frames import FrameCache


def row_of(data, number):
    row = {name: np.zeros(shape, dtype) for name, (shape, dtype) in data.fields().items()}
    data.fill(row, number, 0, 0)
    return row


def test_cached_samples_equal_decoded_ones(micro, toy, tmp_path):
    plain = toy(micro(data__photometric=0.3), fakes.FakeEpisodes(size=48))
    (one,) = plain.members
    for _ in range(2):  # made, then opened
        cache = FrameCache.open(tmp_path / "c", one.episodes, ("main", "wrist"), 32)
        cached = Dataset([replace(one, frames=cache)], plain.config, plain.tokenizer)
        for number in (0, 9, 20):
            a, b = row_of(plain, number), row_of(cached, number)
            assert all((a[name] == b[name]).all() for name in a)


@pytest.mark.parametrize(
    ("episodes", "cameras", "size", "what"),
    [
        (fakes.FakeEpisodes(count=2), ("main", "wrist"), 32, "episodes, lengths"),
        (fakes.FakeEpisodes(), ("wrist", "main"), 32, "cameras"),
        (fakes.FakeEpisodes(), ("main", "wrist"), 16, "size"),
    ],
)
def test_another_stores_frames_are_refused(tmp_path, episodes, cameras, size, what):
    FrameCache.open(tmp_path / "c", fakes.FakeEpisodes(), ("main", "wrist"), 32)
    with pytest.raises(StaleStore, match=f"made with different {what}"):
        FrameCache.open(tmp_path / "c", episodes, cameras, size)


def test_a_damaged_description_and_leftovers(tmp_path):
    def cache():
        return FrameCache.open(tmp_path / "c", fakes.FakeEpisodes(), ("main",), 16)

    leftover = temporary_sibling(tmp_path / "c")
    fields = leftover.name.split("~")
    dead = leftover.with_name("~".join([*fields[:-3], "99999999", *fields[-2:]]))  # no such process
    dead.mkdir()
    cache()
    assert not dead.exists()
    (tmp_path / "c" / "cache.json").write_text("{")
    with pytest.raises(CorruptPart, match=r"cache\.json cannot be read"):
        cache()


def test_damaged_frames_are_named_and_never_read(tmp_path):
    def cache():
        return FrameCache.open(tmp_path / "c", fakes.FakeEpisodes(), ("main",), 16)

    image = np.empty((16, 16, 3), np.uint8)
    cache().read_into(image, 0, 2, 0)
    file = tmp_path / "c" / "frames.bin"
    undamaged = file.read_bytes()
    file.write_bytes(
        undamaged[: 2 * image.nbytes] + bytes(image.nbytes) + undamaged[3 * image.nbytes :]
    )
    cache().read_into(image, 0, 1, 0)
    with pytest.raises(CorruptPart, match=r"frames\.bin: frame 2 was changed after it was written"):
        cache().read_into(image, 0, 2, 0)
    opened = cache()
    file.write_bytes(undamaged[:-1])
    with pytest.raises(CorruptPart, match="changed after it was written"):
        opened.read_into(image, 0, len(opened.checks) - 1, 0)  # the last of all
    with pytest.raises(CorruptPart, match=f"{len(undamaged) - 1:,} of {len(undamaged):,} bytes"):
        cache()


class Recording(fakes.FakeEpisodes):
    """Episodes whose parts record their frames."""

    def parts(self):
        return [replace(part, meta={"frames": self.digests}) for part in super().parts()]


def test_frames_that_changed_are_not_shown_from_the_cache(tmp_path):
    episodes = Recording()
    episodes.digests = {"main/rgb": "a", "wrist/rgb": "b"}
    FrameCache.open(tmp_path / "c", episodes, ("main",), 16)
    episodes.digests = {"main/rgb": "a", "wrist/rgb": "c"}  # not cached
    FrameCache.open(tmp_path / "c", episodes, ("main",), 16)
    episodes.digests = {"main/rgb": "d", "wrist/rgb": "b"}
    with pytest.raises(StaleStore, match="made with different frames"):
        FrameCache.open(tmp_path / "c", episodes, ("main",), 16)
    FrameCache.open(tmp_path / "old", fakes.FakeEpisodes(), ("main",), 16)
    FrameCache.open(tmp_path / "old", episodes, ("main",), 16)  # it does not say: still opened
