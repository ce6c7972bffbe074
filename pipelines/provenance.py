"""What depth, codes, codebooks and policies were made from, as far as that is recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from depthtok.errors import ConfigError, DepthtokError
from depthtok.json_values import JsonObject
from depthtok.stores.codes import CodeStore
from depthtok.stores.depth import DepthStore
from depthtok.stores.lineage import open_store, source_of
from depthtok.stores.store import Store

DEPTH, VERSIONS = "depth", "versions"
"""In a run's notes: what the depth was estimated with, by data set; versions of packages."""


def estimator_of(store: object, others: Mapping[str, Store] | None = None) -> JsonObject | None:
    """What estimated the depth in, or behind, a DepthStore or a CodeStore: the estimator's
    specification (`name`, `licence`, `weights`, ...); None where that is not known. `others` are
    stores by their fingerprints, for those that do not lie where they were made any more."""
    if isinstance(store, DepthStore):
        if store.spec.stage != "decode":
            return store.estimator
        return _behind(store, others)
    if isinstance(store, CodeStore):
        fused = store.spec.what.get("depth_what")
        estimator = fused.get("estimator") if isinstance(fused, Mapping) else None
        return estimator if isinstance(estimator, Mapping) else _behind(store, others)
    return None


def _behind(store: Store, others: Mapping[str, Store] | None) -> JsonObject | None:
    source = (others or {}).get(store.spec.upstream) or source_of(store)
    return None if source is None else estimator_of(source, others)


def opened(paths: Iterable[Path]) -> dict[str, Store]:
    """Stores by their fingerprints. Raises `ConfigError` for what is no store."""
    stores: dict[str, Store] = {}
    for path in paths:
        try:
            store = open_store(path)
        except DepthtokError as error:
            raise ConfigError(
                f"{path} cannot be opened: {error.problem}",
                remedy="name the stores that it was made from, or leave that out",
            ) from error
        stores[store.fingerprint] = store
    return stores
