"""How fast each job is on a GPU that it was tried on, for plans that are made without one.

A rate is for one GPU and the command that measured it. On another card take its own, measured by
`make bench-gpu`: the job's time is in inverse proportion. `docs/scaling.md` does the arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

from depthtok.stores.lineage import BROUGHT
from pipelines.stage import Stage

VIDA_INPUT = 518  # px of the shorter side, at which the networks were measured
VIDA_PRECISION = "float16"  # on GPUs the default, `auto`


@dataclass(frozen=True)
class Rate:
    """What one GPU does in a second."""

    job: str
    card: str
    figure: float
    unit: str
    command: str
    measured: str  # the version that was measured; "" for a rate that is only predicted

    @property
    def origin(self) -> str:
        """Whether it was measured."""
        return f"measured at {self.measured}" if self.measured else "predicted"


H200, COMMIT, BEFORE = "NVIDIA H200", "commit f9ab42b", "commit c517193"

# Predicted: the unmeasured network by its FLOPs, between the shares of the two that were measured.
RATES = tuple(
    Rate(job, H200, figure, unit, f"python benchmarks/{script}", measured)
    for job, figure, unit, script, measured in (
        ("annotate vits", 578, "frames/s", "vida_gpu.py --network vits", COMMIT),
        ("annotate vitb", 320, "frames/s", "vida_gpu.py --network vitb", ""),
        ("annotate vitl", 158, "frames/s", "vida_gpu.py --network vitl", BEFORE),
        ("tokenize", 1_900, "frames/s", "vq_rate.py", COMMIT),
    )
)


def rate_of(stage: Stage) -> Rate | None:
    """The rate of a stage's job; None where none is known: of another size, network or precision,
    or without a GPU."""
    name = stage.spec.stage
    if BROUGHT in stage.spec.what:  # codes that are there are read, on no GPU
        return None
    if name == "annotate":
        # The depth's, where codes are made too; packing a folder of videos has none.
        config = getattr(getattr(stage, "annotate", stage), "config", None)
        if config is None or config.input_size not in (0, VIDA_INPUT):
            return None
        if config.precision not in ("auto", VIDA_PRECISION):
            return None
        name = f"annotate {config.estimator}"
    return next((rate for rate in RATES if rate.job == name), None)
