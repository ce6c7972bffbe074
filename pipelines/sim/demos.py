"""LIBERO's official demonstrations (HDF5): reading, removing idle steps, replaying.

A file `TASK_demo.hdf5` has groups `data/demo_<n>` with `states` (T, D), `actions` (T, 7) and, as an
attribute, the scene's XML, the only record of the fixtures' positions. Replaying them gives what
the files lack: depth, segmentation, and images of any size.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from depthtok.errors import SourceError
from pipelines.sim.libero import LiberoSimulator
from pipelines.sim.motion import Motion, perform
from pipelines.sim.simulator import Task
from pipelines.sim.suites import SETTLE_STEPS, task_named

IDLE_BELOW = 1e-4  # an action is idle if the norm of its first six numbers is below
SUFFIX = "_demo.hdf5"


@dataclass(frozen=True)
class RecordedDemo:
    """One recorded demonstration."""

    state: Float64[np.ndarray, " S"]  # the first one
    actions: Float32[np.ndarray, "T 7"]
    scene: str  # MJCF; "" if the file has none
    number: int  # the number in its group's name


def task_of(path: Path) -> Task:
    """The task of a file, from its name. Raises `SourceError`, `ConfigError`."""
    if not path.name.endswith(SUFFIX):
        raise SourceError(
            f"{path} is not named TASK{SUFFIX}",
            remedy="keep the official names: they identify the task",
        )
    return task_named(path.name.removesuffix(SUFFIX))


def count(path: Path) -> int:
    """The number of demonstrations in a file. Raises `SourceError`."""
    with _opened(path) as file:
        return len(_names(file))


def fingerprint(path: Path) -> str:
    """Digest of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(path: Path, number: int) -> RecordedDemo:
    """Demonstration `number`, in the order of the groups' numbers. Raises `SourceError`."""
    with _opened(path) as file:
        name = _names(file)[number]
        group = file["data"][name]
        try:
            states, actions = group["states"][:1], group["actions"][:]
        except KeyError as error:
            raise SourceError(
                f"{path}: {group.name} lacks states or actions", remedy="download the file again"
            ) from error
        scene = group.attrs.get("model_file", "")
    scene = scene.decode() if isinstance(scene, bytes) else str(scene)
    return RecordedDemo(
        states[0].astype(np.float64), actions.astype(np.float32), scene, _number(name)
    )


def replay(simulator: LiberoSimulator, demo: RecordedDemo) -> Motion:
    """Replays a demonstration: first state, settling steps, actions without the idle ones.

    As for the `no_noops` data sets, all actions are executed, and success means that the task is
    done after the last one. The fixtures are placed as in the recording.
    """
    simulator.reset(0)
    if demo.scene:
        simulator.place_fixtures(demo.scene)
    simulator.place(demo.state)
    for _ in range(SETTLE_STEPS):
        simulator.step(simulator.idle)
    actions = list(without_idle(demo.actions))
    return perform(simulator, actions, limit=len(actions), to_the_end=True)


def without_idle(actions: Float32[np.ndarray, "T 7"]) -> Iterator[Float32[np.ndarray, " 7"]]:
    """Actions that move the hand, or change the gripper relative to the last action kept."""
    previous = None
    for action in actions:
        moves = np.linalg.norm(action[:6]) >= IDLE_BELOW
        if moves or (previous is not None and action[6] != previous[6]):
            previous = action
            yield action


def _opened(path: Path) -> Any:
    """An open `h5py.File` (a package without types). Raises `SourceError`."""
    import h5py

    if not path.is_file():
        raise SourceError(f"there is no file {path}", remedy="give existing files")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise SourceError(
            f"{path} is not an HDF5 file ({error})", remedy="download it again"
        ) from error


def _names(file: Any) -> list[str]:
    """The demonstrations' groups, sorted by number."""
    names = [name for name in file.get("data", ()) if re.fullmatch(r"demo_\d+", name)]
    if not names:
        raise SourceError(
            f"{file.filename} has no group data/demo_0",
            remedy="give a file of LIBERO's demonstrations",
        )
    return sorted(names, key=_number)


def _number(name: str) -> int:
    return int(name.removeprefix("demo_"))
