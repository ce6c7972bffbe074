"""convert checks gripper columns against their convention: each episode as it is read, and all of
them when they are stored."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from depthtok.errors import SchemaError
from depthtok.log import warn
from depthtok.sources import grippers
from depthtok.stores.episodes import EpisodeStore


def require_gripper(values: Float32[np.ndarray, "T G"], convention: str, episode: str) -> None:
    """Raises `SchemaError`, naming the `episode`, if its gripper is of another convention without a
    doubt: a slip of the sensor is left to `check_gripper`, which knows all episodes."""
    for column in values.T:
        if (error := grippers.misfit(column, convention)) is None:
            continue
        may_slip = float(grippers.outside(column, convention).mean()) <= grippers.FEW
        if not may_slip or set(np.unique(column).tolist()) == {0.0, 1.0}:
            raise SchemaError(f"{episode}: {error.problem}", remedy=error.remedy)


def check_gripper(episodes: EpisodeStore, *, refuse: bool) -> None:
    """Checks the gripper columns of all episodes against their convention.

    Raises `SchemaError` if they do not fit, or warns unless `refuse`; warns of a gripper that fits
    but hardly moves.
    """
    convention, statistics = episodes.gripper_convention, episodes.statistics().action
    for column in episodes.gripper if statistics.count else ():
        name = episodes.action_names[column]
        ends = np.array([statistics.min[column], statistics.max[column]], np.float32)
        if misfit := grippers.misfit(ends, convention):
            error = _located(episodes, column, convention, name, misfit)
            if refuse:
                raise error
            warn(f"{error.problem}; {error.remedy}")
        elif problem := grippers.narrow(float(ends[0]), float(ends[1]), convention):
            warn(f"{episodes.path}, {name}: {problem}")


def _located(
    episodes: EpisodeStore, column: int, convention: str, name: str, misfit: SchemaError
) -> SchemaError:
    """The error, by all values of the column, with the first episode out of range."""
    values = np.concatenate([part.map("action")[:, column] for part in episodes.parts()])
    misfit = grippers.misfit(values, convention) or misfit
    steps = np.flatnonzero(grippers.outside(values, convention))
    location = ""
    if len(steps):
        number, step = episodes.locate(int(steps[0]))
        count = f"{len(steps):,} of {len(values):,} steps"
        location = f" ({count}; first: {episodes.episode(number).key}, step {step})"
    return SchemaError(f"{episodes.path}, {name}: {misfit.problem}{location}", remedy=misfit.remedy)
