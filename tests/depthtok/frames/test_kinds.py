"""Which source reads a view: by name and version, and nothing changes for spans."""

from pathlib import Path

import google_crc32c
import numpy as np
import pytest

from depthtok.disk.images import ImageFiles
from depthtok.errors import StoreError
from depthtok.frames.kinds import FrameKind, FrameSource
from depthtok.frames.registry import KINDS, source_of
from depthtok.sources.pixels import PixelFormat
from depthtok.stores.stored_episode import View

RAW = PixelFormat("raw", "uint8", (1, 2, 1))


def test_a_view_of_spans_says_no_more_than_before():
    view = View("front", "rgb", RAW)
    assert view.to_json() == {
        "camera": "front",
        "kind": "rgb",
        "format": {"encoding": "raw", "dtype": "uint8", "shape": [1, 2, 1]},
        "scale_m": None,
    }
    assert View.from_json(view.to_json()) == view


def test_another_kind_is_kept_with_its_settings():
    kind = FrameKind("video", 1, "0.3", {"depth": {"depth_min": 0.01}})
    view = View("front", "depth", RAW, 1.0, frames_by=kind)
    assert View.from_json(view.to_json()) == view
    assert view.to_json()["frames_by"] == {
        "kind": "video",
        "version": 1,
        "needs": "0.3",
        "settings": {"depth": {"depth_min": 0.01}},
    }


@pytest.mark.parametrize(("name", "version"), [("hologram", 1), ("video", 2), ("spans", 0)])
def test_an_unknown_kind_says_which_depthtok_is_needed(name, version):
    view = View("front", "rgb", RAW, frames_by=FrameKind(name, version, "9.1"))
    with pytest.raises(StoreError, match=f"kind '{name}', version {version}") as caught:
        source_of(view, ImageFiles(), "runs/episodes")
    assert "depthtok 9.1 or newer" in caught.value.remedy


def test_spans_are_read_through_whatever_opens_files():
    data = bytes([7, 9, 1, 2])

    class Memory:
        def read(self, offset: int, length: int) -> bytes:
            return data[offset : offset + length]

    opened: list[Path] = []
    images = ImageFiles(lambda path: opened.append(path) or Memory())
    source = source_of(View("front", "rgb", RAW), images, "store")
    rows = np.array([[k, 0, 2, google_crc32c.value(data[k : k + 2])] for k in (2, 0)], np.uint32)
    frames = list(source.frames([Path("far/away")], rows))
    assert [frame.ravel().tolist() for frame in frames] == [[1, 2], [7, 9]]
    assert opened == [Path("far/away")]
    rows[1, 3] ^= 1
    assert ["2 bytes at 0 changed" in e.problem for e in source.check([Path("x")], rows)] == [True]


def test_every_kind_makes_a_frame_source():
    for name, (version, _) in KINDS.items():
        settings = {"key": "obs/image", "column": "observation.images.top"}
        view = View("front", "rgb", RAW, frames_by=FrameKind(name, version, "", settings))
        assert isinstance(source_of(view, ImageFiles(), "store"), FrameSource)
