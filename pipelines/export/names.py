"""What the features of an export are called, by camera."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class CameraKeys:
    """The features of one camera in LeRobot."""

    rgb: str
    depth: str
    codes: str


def keys_of(cameras: Sequence[str]) -> dict[str, CameraKeys]:
    """The keys of cameras. LeRobot takes a column with "image" in its name for pictures, so codes
    are called without: those of `wrist_image` are `observation.depth_codes.wrist`."""
    plain = distinct([safe(camera) for camera in cameras])
    shortened = distinct([without_image(name) for name in plain])
    return {
        camera: CameraKeys(
            f"observation.images.{name}",
            f"observation.depth.{name}",
            f"observation.depth_codes.{short}",
        )
        for camera, name, short in zip(cameras, plain, shortened, strict=True)
    }


def safe(name: str) -> str:
    """A name of letters, digits, `_` and `-` alone."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_") or "camera"


def without_image(name: str) -> str:
    """`wrist` for `wrist_image`, `main` for `image`."""
    return re.sub(r"[_-]*images?[_-]*", "_", name, flags=re.IGNORECASE).strip("_-") or "main"


def distinct(names: Sequence[str]) -> list[str]:
    """The names, with a number after those that are there already."""
    names_so_far: list[str] = []
    for name in names:
        number, candidate = 2, name
        while candidate in names_so_far:
            candidate, number = f"{name}_{number}", number + 1
        names_so_far.append(candidate)
    return names_so_far
