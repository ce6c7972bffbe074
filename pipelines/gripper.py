"""convert holds gripper columns against their convention: at once where a whole episode is out of
range, and over all episodes when they are there."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from depthtok.episodes import EpisodeStore
from depthtok.errors import SchemaError
from depthtok.log import warn
from depthtok.sources import grippers


def require_gripper(values: Float32[np.ndarray, "T G"], convention: str, where: str) -> None:
    """Raises `SchemaError` if the gripper of the episode `where` is of another convention without a
    doubt: a slip of the sensor is left to `judge_gripper`, which knows all episodes."""
    for one in values.T:
        if (error := grippers.misfit(one, convention)) is None:
            continue
        slips = float(grippers.outside(one, convention).mean()) <= grippers.FEW
        if not slips or set(np.unique(one).tolist()) == {0.0, 1.0}:
            raise SchemaError(f"{where}: {error.problem}", remedy=error.remedy)


def judge_gripper(episodes: EpisodeStore, *, refuse: bool) -> None:
    """Holds the gripper of all episodes against its convention.

    Raises `SchemaError` if it does not fit, or warns unless `refuse`; warns if it fits, but hardly
    moves.
    """
    convention, columns = episodes.about["gripper_convention"], episodes.about["gripper"]
    statistics = episodes.statistics().action
    for column in columns if statistics.count else ():
        name = episodes.about["action_names"][column]
        ends = np.array([statistics.min[column], statistics.max[column]], np.float32)
        if grippers.misfit(ends, convention):
            error = _named(episodes, column, convention, name)
            if refuse:
                raise error
            warn(f"{error.problem}; {error.remedy}")
        elif told := grippers.narrow(float(ends[0]), float(ends[1]), convention):
            warn(f"{episodes.path}, {name}: {told}")


def _named(episodes: EpisodeStore, column: int, convention: str, name: str) -> SchemaError:
    """The error, with all values of the column and the first episode that is out of range."""
    values = np.concatenate([part.map("action")[:, column] for part in episodes.parts()])
    error = grippers.misfit(values, convention)
    steps = np.flatnonzero(grippers.outside(values, convention))
    where = ""
    if len(steps):
        number, step = episodes.locate(int(steps[0]))
        many = f"{len(steps):,} of {len(values):,} steps"
        where = f" ({many}; first: {episodes.episode(number).key}, step {step})"
    return SchemaError(f"{episodes.path}, {name}: {error.problem}{where}", remedy=error.remedy)
