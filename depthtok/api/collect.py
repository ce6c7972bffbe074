"""collect: demonstrations from a simulator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from depthtok.api.parameters import BySet, Only
from depthtok.config import RunOptions
from depthtok.log import warn
from depthtok.signals import stoppable
from pipelines.sim.config import CollectConfig

if TYPE_CHECKING:
    from pipelines.stage import Outcome


def collect(
    out: Annotated[Path, "directory of the RLDS data set"],
    settings: Annotated[CollectConfig, BySet("views", "starts", "renderings")],
    options: Annotated[
        RunOptions,
        Only(
            *("workers", "ray_address", "cpus_per_worker", "shard", "limit", "resume"),
            "retry_failed",
            limit="stop after the shards with this many episodes",
            resume="keep finished shards",
        ),
        BySet("cpus_per_worker"),
    ],
) -> Outcome:
    """Record demonstrations in a simulator (LIBERO, Meta-World), with ground-truth depth.

    A scripted expert solves its tasks from seeded placements, or official demonstrations of LIBERO
    are replayed (--demos). Writes an RLDS data set. Needs the extra `sim` or `metaworld`.

    Example: depthtok collect --suite libero_object --tasks 0,1 --episodes 10 --out runs/demos
    """
    from pipelines.collect import CollectStage
    from pipelines.run import run
    from pipelines.sim.benchmark import benchmark_of

    benchmark = benchmark_of(settings.suite)
    benchmark.graphics()  # refused here, and not by every episode
    stage = CollectStage(out, settings)
    if stage.left_out:
        warn(f"left out, as the scripted expert {benchmark.expert.limits}: tasks {stage.left_out}")
    with stoppable():
        return run(stage, options)
