"""convert: an RLDS data set to an EpisodeStore."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from depthtok.api.parameters import BySet, Only, Positional
from depthtok.api.stage_runs import SHARED, Out, warn_of_unknown
from depthtok.config import RunOptions
from depthtok.signals import stoppable
from pipelines.config import ConvertConfig

if TYPE_CHECKING:
    from pipelines.plan import Plan
    from pipelines.stage import Outcome


def convert(
    source: Annotated[
        Path, Positional("DIR", "an RLDS or LeRobot data set, or HDF5 demonstrations")
    ],
    out: Out,
    settings: ConvertConfig,
    options: Annotated[RunOptions, Only(*SHARED, "overwrite"), BySet("cpus_per_worker")],
) -> Outcome | Plan:
    """Index a data set: DIR -> EpisodeStore.

    DIR is RLDS, LeRobot v3.0 or v2.1, or HDF5 demonstrations (LIBERO, robomimic). Every file is
    read once. Images and videos stay where they are; actions, states, instructions and the place of
    every frame go into the store. Given again, it makes the parts of files that changed anew.

    Example: depthtok convert libero_spatial_no_noops/1.0.0 --out runs/episodes
    """
    from pipelines.convert.opening import stage_of
    from pipelines.convert.overwrite import planned_over, run_over, settle
    from pipelines.convert.told import with_schema
    from pipelines.plan import plan
    from pipelines.run import run

    settle(out)
    stage = stage_of(source, out, settings)
    warn_of_unknown(stage.schema)
    if options.plan:
        return plan(planned_over(stage) if options.overwrite else stage, options)
    with stoppable():
        outcome = run_over(stage, options) if options.overwrite else run(stage, options)
    return with_schema(outcome, stage)
