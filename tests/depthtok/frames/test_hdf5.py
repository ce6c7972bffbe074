"""Frames of HDF5 demonstrations are those that were indexed, or refused."""

import google_crc32c
import numpy as np
import pytest

from depthtok.disk.images import ImageFiles
from depthtok.errors import CorruptRecord
from depthtok.frames.hdf5 import NAME, NEEDS, VERSION
from depthtok.frames.kinds import FrameKind
from depthtok.frames.registry import source_of
from depthtok.sources.pixels import PixelFormat
from depthtok.stores.stored_episode import View

h5py = pytest.importorskip("h5py")
SHAPE = (2, 3, 3)
FRAMES = np.arange(3 * 2 * 3 * 3, dtype=np.uint8).reshape(3, *SHAPE)  # of demonstration 7
ROWS = np.array(
    [[step, 0, 7, google_crc32c.value(FRAMES[step].tobytes())] for step in range(3)], np.uint32
)


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "demos.hdf5"
    with h5py.File(file, "w") as opened:
        opened["data/demo_7/obs/rgb"] = FRAMES
        opened["data/demo_0/obs/rgb"] = FRAMES[:1] + 100
    return file


def frames_source(channels="rgb"):
    kind = FrameKind(NAME, VERSION, NEEDS, {"key": "obs/rgb"})
    view = View("a", "rgb", PixelFormat("raw", "uint8", SHAPE), channels=channels, frames_by=kind)
    return source_of(view, ImageFiles(), "here")


def test_rows_are_frames_of_their_demonstration(path):
    source = frames_source()
    assert np.array_equal(list(source.frames([path], ROWS[[2, 0, 1]])), FRAMES[[2, 0, 1]])
    assert list(source.check([path], ROWS)) == []
    assert np.array_equal(list(frames_source("bgr").frames([path], ROWS)), FRAMES[..., ::-1])


def test_a_frame_that_changed_since_it_was_indexed_is_named(path):
    with h5py.File(path, "a") as opened:
        opened["data/demo_7/obs/rgb"][1, 0, 0, 0] ^= 1
    source = frames_source()
    assert np.array_equal(next(iter(source.frames([path], ROWS[:1]))), FRAMES[0])
    with pytest.raises(CorruptRecord, match="frame 1 of data/demo_7 changed since it was indexed"):
        list(source.frames([path], ROWS))
    assert [error.problem.split(": ")[1] for error in source.check([path], ROWS)] == [
        "frame 1 of data/demo_7 changed since it was indexed"
    ]
