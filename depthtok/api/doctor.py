"""What is installed, what is missing, and how to get it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
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
    return [*rows, *_single_frame(cache), *_of_other_packages()]


def _single_frame(cache: Path) -> Iterator[Row]:
    """Depth Anything 3, and whether models of transformers can be used."""
    from importlib.util import find_spec

    from depthtok.installation import Row, State
    from pipelines.depth.da3.config import CONFIGS
    from pipelines.depth.da3.published import PUBLISHED
    from pipelines.depth.vida.published import cached

    opencv = find_spec("cv2") is not None
    for name, config in CONFIGS.items():
        kind = "metres, by the focal length" if config.metric else "relative depth"
        path = cached(PUBLISHED[name], cache)
        detail = f"{kind}; {PUBLISHED[name].licence}; {path or 'no weights here'}"
        get = "downloaded at first use, or --weights FILE"
        get = get if opencv else f"pip install 'depthtok[da3]'; {get}"
        state, remedy = (State.OK, "") if path and opencv else (State.OPTIONAL, get)
        yield Row("Estimators", name, state, detail, remedy)
    there = find_spec("transformers") is not None
    state, remedy = (State.OK, "") if there else (State.OPTIONAL, "pip install 'depthtok[hf]'")
    detail = "kind and licence as each model's; transformers " + ("there" if there else "missing")
    yield Row("Estimators", "hf:OWNER/NAME", state, detail, remedy)


def _of_other_packages() -> Iterator[Row]:
    """What other packages offer, and what is wrong with an offer that cannot be used."""
    from depthtok.installation import Row, State
    from pipelines.depth.outside import offers

    for offer in offers():
        detail = f"{offer.kind or 'its kind is to be stated'}; {offer.licence}; {offer.package}"
        state = State.OPTIONAL if offer.fault else State.OK
        yield Row(
            "Estimators",
            offer.name,
            state,
            offer.fault or detail,
            "mend or uninstall that package" if offer.fault else "",
        )
