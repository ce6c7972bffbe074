"""What data sets, stores, codebooks, runs and evaluations hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from depthtok.api.parameters import Positional

if TYPE_CHECKING:
    from pipelines.inspect.facts import Summary


@dataclass(frozen=True)
class Inspection:
    """A summary of each path, and of the mixture where several are EpisodeStores."""

    summaries: Sequence[Summary]
    drafts: Sequence[str] = ()  # of schemas, as TOML, where they were asked for


def inspect(
    paths: Annotated[
        list[Path], Positional("PATH...", "data sets, stores, codebooks, runs, evaluations")
    ],
    draft: Annotated[bool, "print a draft of a data set's schema, as TOML"] = False,
) -> Inspection:
    """Summarise data sets, stores, codebooks, runs, evaluations.

    A data set (RLDS, LeRobot, HDF5) without a schema gets a draft of one; `--draft` prints that
    alone. For several EpisodeStores the statistics of their mixture come last.

    Example: depthtok inspect my_dataset/1.0.0
    """
    from depthtok.copies.at_hand import at_hand
    from depthtok.stores.episodes import EpisodeStore
    from depthtok.stores.lineage import open_store
    from depthtok.stores.spec import is_store
    from pipelines.inspect.data import inspect_mixture, schema_draft
    from pipelines.inspect.summary import inspect as summary_of

    paths = [at_hand(path) for path in paths]
    if draft:
        return Inspection((), tuple(schema_draft(path) for path in paths))
    summaries = [summary_of(path) for path in paths]
    stores = [open_store(path) for path in paths if is_store(path)]
    episodes = [store for store in stores if isinstance(store, EpisodeStore)]
    if len(episodes) > 1:
        summaries.append(inspect_mixture(episodes))
    return Inspection(tuple(summaries))
