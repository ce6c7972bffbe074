"""What depth, codes, codebooks and policies were made from, as far as that is recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from depthtok.errors import ConfigError, DepthtokError
from depthtok.json_values import JsonObject
from depthtok.remote.repository import recorded
from depthtok.stores.codes import CodeStore
from depthtok.stores.depth import DepthStore
from depthtok.stores.lineage import open_store, source_of
from depthtok.stores.store import Store
from pipelines.train_vla.stores import OpenStores, member_names
from vla.training.checkpoint import TrainingState

DEPTH = "depth"  # in a run's notes: what the depth was estimated with, by data set


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


def of_training(opened_stores: OpenStores, begun: TrainingState | None) -> dict[str, object]:
    """What a run notes: by data set the estimator of its depth (None: not known), and where on the
    Hub codes and codebook came from. A run that goes on keeps what it noted."""
    if begun is not None:
        noted = (begun.notes or {}).get(DEPTH)
        return {} if noted is None else {DEPTH: noted}
    names = member_names(opened_stores.episodes)
    codebook = opened_stores.book and recorded(opened_stores.book.path)
    depth = {}
    for name, target in zip(names, opened_stores.targets, strict=False):
        store = target if isinstance(target, CodeStore) else target.source
        origin = store.origin if isinstance(store, Store) else ""
        depth[name] = {
            "estimator": estimator_of(store),
            **_from_hub("codes" if store is target else "depth", origin),
            **_from_hub("codebook", codebook),
        }
    return {DEPTH: depth} if depth else {}


def _from_hub(name: str, origin: object) -> dict[str, str]:
    """Paths of this machine mean nothing elsewhere: they are not noted."""
    return {name: str(origin)} if str(origin).startswith("hf://") else {}
