"""What depth, codes, codebooks and policies were made from, as far as that is recorded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from depthtok.disk.json_files import read_json_object
from depthtok.errors import ConfigError, DepthtokError, as_type, as_written
from depthtok.json_values import JsonObject
from depthtok.stores.codes import CodeStore
from depthtok.stores.depth import DepthStore
from depthtok.stores.lineage import open_store, source_of
from depthtok.stores.store import Store

MADE_FROM = "made_from.json"  # beside the root of a store that was pushed
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
    return _said(store) if source is None else estimator_of(source, others)


def _said(store: Store) -> JsonObject | None:
    """What a store that was pushed says of its estimator. Raises `CorruptPart`."""
    file = store.path / MADE_FROM
    if not file.is_file():
        return None
    with as_written(file, "fetch the store again"):
        estimator = read_json_object(file, "fetch the store again")["estimator"]
        return None if estimator is None else as_type(dict, estimator)


def said_with(estimator: JsonObject | None) -> dict[str, str]:
    """The file beside a store that is pushed, for those who do not have what it was made from."""
    return {MADE_FROM: json.dumps({"estimator": estimator}, indent=1, sort_keys=True) + "\n"}


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
