"""What rollouts and recordings ask of a simulator. (The command `eval` knows LIBERO's suites only:
docs/simulator.md says where another one is added.)

    simulator.reset(seed, init_state=3)     the world stands still and is ready to act in
    while not simulator.step(action): ...   one control step; True when the task is done
    view = simulator.render("image")        colour and true depth, from the same instant

Images come in the *published* orientation of the data sets that policies learn from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, Float32, UInt8

CLASSES = ("background", "robot", "gripper", "objects", "fixtures")
"""What the numbers of a segmentation mean."""
SEEDS = 2**31


@dataclass(frozen=True)
class Task:
    """One task of a suite. `max_steps` is how many actions the benchmark allows."""

    suite: str
    number: int
    name: str
    instruction: str
    max_steps: int
    init_states: int  # official ones

    def __str__(self) -> str:
        return f"{self.suite}/{self.number}"

    def seed(self, purpose: str, seed: int, number: int) -> int:
        """A seed of its own for every episode, whatever order they are done in: another one for
        another task, run (`seed`), episode (`number`) or purpose."""
        words = [*purpose.encode(), *self.suite.encode(), self.number, seed, number]
        return int(np.random.default_rng(words).integers(SEEDS))


@dataclass(frozen=True)
class View:
    """What one camera sees."""

    rgb: UInt8[np.ndarray, "H W 3"]
    depth_m: Float32[np.ndarray, "H W"]  # along the optical axis
    segmentation: UInt8[np.ndarray, "H W"] | None = None  # numbers of CLASSES


@dataclass(frozen=True)
class Lens:
    """A camera as geometry, for the upright unmirrored view; axes x right, y down, z forward."""

    intrinsics: Float[np.ndarray, "3 3"]  # px; pixel centres at +0.5
    to_world: Float[np.ndarray, "4 4"]  # m, at this instant


class Simulator(Protocol):
    """One task in one world. Equal seeds and actions give equal observations."""

    task: Task
    cameras: tuple[str, ...]  # the main one first
    size: int  # side of the images (px)
    idle: Float32[np.ndarray, " A"]  # the action that does nothing

    @property
    def clip_planes(self) -> tuple[float, float]:
        """The nearest and the farthest depth that is drawn (m)."""
        ...

    def reset(self, seed: int, init_state: int | None = None) -> None:
        """A fresh episode: drawn from `seed`, or the benchmark's own initial state."""
        ...

    def step(self, action: Float32[np.ndarray, " A"]) -> bool:
        """Does one action. True if the task is done after it, by the benchmark's own check."""
        ...

    def proprio(self) -> Float32[np.ndarray, " P"]:
        """The robot's state as the data sets have it."""
        ...

    def joints(self) -> Float32[np.ndarray, " J"]:
        """Joint angles (rad)."""
        ...

    def render(self, camera: str, *, segmentation: bool = False) -> View:
        """Colour and depth, and on request what each pixel shows."""
        ...

    def lens(self, camera: str) -> Lens:
        """Intrinsics and pose of a camera."""
        ...

    def save(self) -> Float[np.ndarray, " S"]:
        """The state of the world, for `restore`."""
        ...

    def restore(self, state: Float[np.ndarray, " S"]) -> None:
        """Brings a saved state back, to be looked at."""
        ...

    def close(self) -> None:
        """Frees the renderer."""
        ...
