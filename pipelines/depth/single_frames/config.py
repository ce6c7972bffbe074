"""What estimators of single frames are asked for. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

from depthtok.required import one_of, require

STEADY = ("off", "causal", "clip")
KINDS = ("disparity", "metres", "relative_depth")


@dataclass(frozen=True)
class FrameConfig:
    """Settings that an estimator of single frames may take; each is recorded where it is set.

    `kind` is that of the depth, where the estimator does not say it. `shift` is of relative depth:
    its disparity is 1 / (z + shift). `focal_px` is the focal length in pixels of the frame, 0 for
    the data's own intrinsics. `sky` marks the sky as invalid. `steady` aligns the scale and shift
    of frames: `causal` with those before, `clip` with the whole clip. Raises `ConfigError` for a
    value that a field cannot have.
    """

    kind: str = ""
    shift: float = 0.0
    focal_px: float = 0.0
    sky: bool = False
    steady: str = "off"

    def __post_init__(self) -> None:
        if self.kind:
            one_of("kind", self.kind, KINDS)
        one_of("steady", self.steady, STEADY)
        for name in ("shift", "focal_px"):
            value = getattr(self, name)
            require(math.isfinite(value) and value >= 0, name, value, "give 0 or more")

    def chosen(self) -> Iterator[tuple[str, object]]:
        """What is set, by name."""
        for field in fields(self):
            if (value := getattr(self, field.name)) != field.default:
                yield field.name, value
