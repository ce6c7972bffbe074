"""Frames decoded and resized once, for runs that read each of them many times.

    CACHE/frames.bin     uint8 [steps, cameras, size, size, 3], episodes one after another
    CACHE/cache.json     of which store, which cameras, which size

12 GB hold 80,000 frames of 224 px. Augmentation comes after, so it stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from depthtok.data import ImageTransform
from depthtok.errors import StaleStore
from depthtok.files import commit_directory

FRAMES, ABOUT = "frames.bin", "cache.json"


@dataclass(frozen=True)
class FrameCache:
    """The frames of one EpisodeStore at the model's size."""

    frames: UInt8[np.ndarray, "S I H W 3"]
    starts: np.ndarray  # first row of each episode

    @classmethod
    def open(cls, path: str | Path, episodes: Any, cameras: Sequence[str], size: int) -> FrameCache:
        """The cache at `path`, made there if there is none.

        Raises `StaleStore` where it is of another store, other cameras or another size.
        """
        path = Path(path)
        about = {
            "episodes": episodes.fingerprint,
            "lengths": int(np.sum(episodes.lengths)),
            "cameras": list(cameras),
            "size": size,
        }
        if not path.exists():
            _build(path, episodes, about)
        found = json.loads((path / ABOUT).read_text())
        if found != about:
            names = sorted(name for name in about if found.get(name) != about[name])
            raise StaleStore(
                f"the frames cached in {path} are of other {', '.join(names)}",
                remedy="delete that directory, or name another one",
            )
        shape = (about["lengths"], len(cameras), size, size, 3)
        frames = np.memmap(path / FRAMES, np.uint8, "r", shape=shape)
        return cls(frames, np.cumsum(episodes.lengths) - episodes.lengths)

    def frame(self, episode: int, step: int, camera: int) -> UInt8[np.ndarray, "H W 3"]:
        """One frame; `camera` is its place among the cache's cameras."""
        return self.frames[int(self.starts[episode]) + step, camera]


def _build(path: Path, episodes: Any, about: dict[str, Any]) -> None:
    door = ImageTransform(size=(about["size"],) * 2)
    with commit_directory(path) as folder:
        with (folder / FRAMES).open("wb") as file:
            for number, steps in enumerate(episodes.lengths):
                episode = episodes.episode(number)
                views = [
                    door.rgb(episode.frames(camera).read(0, int(steps)))
                    for camera in about["cameras"]
                ]
                file.write(np.stack(views, axis=1).tobytes())
        (folder / ABOUT).write_text(json.dumps(about, indent=1))
