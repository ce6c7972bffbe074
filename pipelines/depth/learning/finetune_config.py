"""The settings of fine-tuning. Standard library only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from depthtok.disk.bounds import too_large
from depthtok.required import at_least, fulfilled, require
from pipelines.depth.vida.config import PATCH, WINDOW


@dataclass(frozen=True)
class FinetuneConfig:
    """Settings of a fine-tuning run."""

    steps: Annotated[int, "training steps"] = 1000
    batch: Annotated[int, "windows per step"] = 2
    frames: Annotated[int, "frames per training window, 2 to 32"] = 8
    input_size: Annotated[int, "network input size, px; 0: set by its own processor"] = 140
    learning_rate: Annotated[float, "peak learning rate"] = 1e-4
    weight_decay: Annotated[float, "AdamW's weight decay"] = 0.01
    temporal_weight: Annotated[float, "weight of the temporal-gradient loss"] = 1.0
    mirror: Annotated[bool, "mirror half of the windows left to right"] = True
    seed: Annotated[int, "random seed"] = 0
    save_every: Annotated[int, "steps between checkpoints"] = 200

    def __post_init__(self) -> None:
        fulfilled(
            2 <= self.frames <= WINDOW,
            f"frames={self.frames}: a training window has 2 to {WINDOW} frames",
            "8 is a good default",
        )
        at_least(1, self, "steps batch save_every")
        rate = self.learning_rate
        require(0 < rate < math.inf, "learning_rate", rate, "give a number above 0, such as 1e-4")
        for name in ("weight_decay", "temporal_weight"):
            value = getattr(self, name)
            require(0 <= value < math.inf, name, value, "give 0 (off) or more")
        size = self.input_size
        fits = size == 0 or (size >= PATCH and too_large(size, size) is None)
        require(fits, "input_size", size, f"give {PATCH} px or more, such as 140")
        require(self.seed >= 0, "seed", self.seed, "give 0 or more")
