"""What is installed, what is missing, and how to get it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from depthtok.installation import Row


@dataclass(frozen=True)
class Examination:
    """What was looked at, and whether depthtok can work here."""

    rows: Sequence[Row]
    good: bool


def doctor() -> Examination:
    """Show what is installed, what is missing, and how to get it."""
    from depthtok.installation import examine, verdict

    rows = [*examine(), *_estimators()]
    return Examination(rows, verdict(rows)[0])


def _estimators() -> list[Row]:
    """Every depth estimator: kind, licence, and where its weights are."""
    from depthtok.installation import Row, State, hub_cache
    from pipelines.depth.vida.config import CONFIGS
    from pipelines.depth.vida.published import PUBLISHED, licence_of, shipped_or_cached

    rows = [Row("Estimators", "dataset", State.OK, "metres; the depth that a data set carries")]
    cache = hub_cache(os.environ)
    for name, config in CONFIGS.items():
        path = shipped_or_cached(name, cache)
        kind = "metres" if config.metric else "disparity"
        licence = f"{licence_of(name)}; " if path or name in PUBLISHED else ""
        get = "downloaded at first use, or --weights FILE"
        if name not in PUBLISHED:
            training = f"depthtok finetune-depth --estimator {name} --from-scratch"
            get = f"not published; train it: {training}"
        state, remedy = (State.OK, "") if path else (State.OPTIONAL, get)
        detail = f"{kind}; {licence}{path or 'no weights here'}"
        rows.append(Row("Estimators", name, state, detail, remedy))
    return rows
