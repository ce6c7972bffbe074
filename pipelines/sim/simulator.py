"""The simulator interface for rollouts and recordings.

What `eval` and `collect` ask for besides is in `benchmark.py`; docs/simulator.md says how to add
another simulator.

    simulator.reset(seed, init_state=3)     the world is at rest and ready
    while not simulator.step(action): ...   one control step; True when the task is done
    view = simulator.render("image")        colour and true depth, from the same instant

Images are in the *published* orientation of the data sets that policies are trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, UInt8

from depthtok.meaning import Meaning
from pipelines.sim.variation import PLAIN, Variation

CLASSES = ("background", "robot", "gripper", "objects", "fixtures")
"""The meaning of the numbers in a segmentation."""
SEEDS = 2**31


@dataclass(frozen=True)
class Task:
    """One task of a suite. `max_steps` is the number of actions that the benchmark allows."""

    suite: str
    number: int
    name: str
    instruction: str
    max_steps: int
    init_states: int  # number of official ones
    base: str = ""  # the suite that has its scene and initial states; "": its own
    variation: Variation = PLAIN  # of the scene

    @property
    def scene(self) -> str:
        """The suite that has its scene, goal and initial states."""
        return self.base or self.suite

    @property
    def world(self) -> tuple[str, str]:
        """What tasks have alike that one simulator can `vary` between."""
        return self.scene, self.name

    def __str__(self) -> str:
        return f"{self.suite}/{self.number}"

    def seed(self, purpose: str, seed: int, number: int) -> int:
        """A separate seed for every episode, independent of execution order: it differs by task,
        run (`seed`), episode (`number`), purpose and variation."""
        words = [*purpose.encode(), *self.suite.encode(), self.number, seed, number]
        words += self.variation.name.encode()  # b"" of an unvaried task, as before there were any
        return int(np.random.default_rng(words).integers(SEEDS))


@dataclass(frozen=True)
class CameraView:
    """The output of one camera."""

    rgb: UInt8[np.ndarray, "H W 3"]
    depth_m: Float32[np.ndarray, "H W"]  # along the optical axis
    segmentation: UInt8[np.ndarray, "H W"] | None = None  # numbers of CLASSES


@dataclass(frozen=True)
class Lens:
    """Camera geometry for the upright, unmirrored view; axes x right, y down, z forward."""

    intrinsics: Float[np.ndarray, "3 3"]  # px; pixel centres at +0.5
    to_world: Float[np.ndarray, "4 4"]  # m, at this moment


@runtime_checkable
class Simulator(Protocol):
    """One task in one world. Equal seeds and actions give equal observations."""

    @property
    def task(self) -> Task: ...

    @property
    def cameras(self) -> tuple[str, ...]: ...  # the main one first

    @property
    def size(self) -> int: ...  # side of the images (px)

    @property
    def idle(self) -> Float32[np.ndarray, " A"]: ...  # the action that does nothing

    @property
    def meaning(self) -> Meaning: ...  # of the actions it takes and of `proprio`

    @property
    def clip_planes(self) -> tuple[float, float]: ...  # near and far (m)

    def vary(self, task: Task) -> None:
        """Becomes a variation of the same task."""
        ...

    def reset(self, seed: int, init_state: int | None = None) -> None:
        """Starts an episode: sampled from `seed`, or the benchmark's own initial state."""
        ...

    def step(self, action: Float32[np.ndarray, " A"]) -> bool:
        """Executes one action. Returns whether the task is then done, by the benchmark's check."""
        ...

    def proprio(self) -> Float32[np.ndarray, " P"]:
        """The robot's state, as in the data sets."""
        ...

    def joints(self) -> Float32[np.ndarray, " J"]:
        """Joint angles (rad)."""
        ...

    def render(self, camera: str, *, segmentation: bool = False) -> CameraView:
        """Colour and depth, and optionally the class of each pixel."""
        ...

    def lens(self, camera: str) -> Lens:
        """Intrinsics and pose of a camera."""
        ...

    def save(self) -> Float[np.ndarray, " S"]:
        """The state of the world, for `restore`."""
        ...

    def restore(self, state: Float[np.ndarray, " S"]) -> None:
        """Restores a saved state for rendering."""
        ...

    def close(self) -> None:
        """Frees the renderer."""
        ...
