"""A cache of frames, decoded and resized once, for runs that read each frame many times.

    CACHE/frames.bin     uint8 [steps, cameras, size, size, 3], episodes concatenated
    CACHE/crc32c.bin     uint32 [steps, cameras], of each frame's bytes
    CACHE/cache.json     the store, cameras and size that it was made from

80,000 frames of 224 px take 12 GB. Augmentation is applied after reading, so it is unaffected. A
frame is read straight into the batch: a memory map would cost a page fault per 4 to 64 kB.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from jaxtyping import Int64, UInt8, UInt32

from depthtok.config import digest
from depthtok.data import Camera, ImageTransform
from depthtok.disk.bounds import together
from depthtok.disk.files import commit_directory
from depthtok.disk.images import OpenFile
from depthtok.disk.json_files import read_json_object
from depthtok.disk.temporaries import sweep
from depthtok.errors import CorruptPart, StaleStore
from depthtok.stores.origin import frames_of

FRAMES, CHECKS, ABOUT = "frames.bin", "crc32c.bin", "cache.json"
FORMAT = 2
BLOCK = 64  # frames of each camera that are read together at most
REMAKE = "delete the cache; it is rebuilt from the episodes"


@dataclass(frozen=True)
class FrameCache:
    """The frames of one EpisodeStore at the model's size."""

    file: OpenFile
    checks: UInt32[np.ndarray, "S I"]
    starts: Int64[np.ndarray, " E"]  # first row of each episode

    @classmethod
    def open(cls, path: str | Path, episodes: Any, cameras: Sequence[str], size: int) -> FrameCache:
        """The cache at `path`, created if there is none.

        Raises `StaleStore` if it was made from another store, other cameras or another size, and
        `CorruptPart` if its files are damaged or have the wrong length.
        """
        path = Path(path)
        about = {
            "format": FORMAT,
            "episodes": episodes.fingerprint,
            "lengths": int(np.sum(episodes.lengths)),
            "cameras": list(cameras),
            "size": size,
        }
        views = [frames_of(part.meta, cameras) for part in episodes.parts()]
        if all(views):
            about["frames"] = digest(views)
        sweep(path.parent)
        if not path.exists():
            _build(path, episodes, about)
        stored = read_json_object(path / ABOUT, REMAKE)
        unknown = {"frames"} - {*stored}  # in a cache made before this was kept
        names = sorted(k for k in about if stored.get(k) != about[k] and k not in unknown)
        if names:
            raise StaleStore(
                f"the frames cached in {path} were made with different {', '.join(names)}",
                remedy="delete that directory, or choose another one",
            )
        shape = (about["lengths"], len(cameras))
        _require_length(path / CHECKS, shape[0] * shape[1] * 4)
        _require_length(path / FRAMES, shape[0] * shape[1] * size * size * 3)
        checks = np.memmap(path / CHECKS, "<u4", "r", shape=shape)
        starts = np.cumsum(episodes.lengths) - episodes.lengths
        return cls(OpenFile(path / FRAMES), checks, starts)

    def read_into(
        self, out: UInt8[np.ndarray, "H W 3"], episode: int, step: int, camera: int
    ) -> None:
        """Reads one frame into contiguous memory; `camera` is its index among the cache's cameras.

        Raises `CorruptPart` if its checksum does not match.
        """
        row = int(self.starts[episode]) + step
        number = row * self.checks.shape[1] + camera
        read = os.preadv(self.file.number, [out.data], number * out.nbytes)
        if read != out.nbytes or google_crc32c.value(out) != self.checks[row, camera]:
            raise CorruptPart(
                f"{self.file.path}: frame {number} was changed after it was written", remedy=REMAKE
            )


def _require_length(path: Path, length: int) -> None:
    size = path.stat().st_size if path.exists() else 0
    if size != length:
        raise CorruptPart(f"{path} has {size:,} of {length:,} bytes", remedy=REMAKE)


def _block(camera: Camera) -> int:
    """How many frames of a camera are read together; one where frames may be of any size."""
    pixels = (camera.height or 0) * (camera.width or 0)
    return together(3 * pixels, BLOCK) if pixels else 1


def _build(path: Path, episodes: Any, about: dict[str, Any]) -> None:
    door = ImageTransform(size=(about["size"],) * 2)
    with commit_directory(path) as folder:
        with (folder / FRAMES).open("wb") as file, (folder / CHECKS).open("wb") as checks:
            for number, steps in enumerate(episodes.lengths):
                clips = [episodes.episode(number).frames(camera) for camera in about["cameras"]]
                block = min(_block(episodes.cameras[camera]) for camera in about["cameras"])
                for start in range(0, int(steps), block):
                    stop = min(start + block, int(steps))
                    frames = np.stack([door.rgb(clip.read(start, stop)) for clip in clips], axis=1)
                    file.write(frames.data)
                    checksums = [google_crc32c.value(frame) for step in frames for frame in step]
                    checks.write(np.array(checksums, "<u4").data)
        (folder / ABOUT).write_text(json.dumps(about, indent=1))
