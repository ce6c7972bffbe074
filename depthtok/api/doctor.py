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
    from pipelines.depth.gem import published as gem
    from pipelines.depth.gem.config import GEM_CONFIGS
    from pipelines.depth.vida import published as vida
    from pipelines.depth.vida.config import CONFIGS

    rows = [Row("Estimators", "dataset", State.OK, "metres; the depth that a data set carries")]
    cache = hub_cache(os.environ)
    published = vida.PUBLISHED | gem.PUBLISHED
    for name, config in {**CONFIGS, **GEM_CONFIGS}.items():
        path = vida.shipped_or_cached(name, cache, published)
        kind = "metres" if config.metric else "disparity"
        of = gem if name in GEM_CONFIGS else vida
        licence = f"{of.licence_of(name)}; " if path or name in published else ""
        get = "downloaded at first use, or --weights FILE"
        if name not in published:
            training = f"depthtok finetune-depth --estimator {name} --from-scratch"
            get = f"not published; train it: {training}"
        state, remedy = (State.OK, "") if path else (State.OPTIONAL, get)
        detail = f"{kind}; {licence}{path or 'no weights here'}"
        rows.append(Row("Estimators", name, state, detail, remedy))
    return rows
