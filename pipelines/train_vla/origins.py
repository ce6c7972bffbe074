"""What a run notes of where its training came from; not a command itself."""

from __future__ import annotations

import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

from depthtok.remote.repository import recorded
from depthtok.stores.codes import CodeStore
from depthtok.stores.lineage import exported_from
from depthtok.stores.store import Store
from pipelines.provenance import DEPTH, VERSIONS, estimator_of
from pipelines.train_vla.stores import OpenStores, member_names
from vla.training.checkpoint import TrainingState


def notes(opened_stores: OpenStores, begun: TrainingState | None) -> dict[str, object]:
    """What a run notes: versions of packages; by data set the estimator of its depth (None: not
    known), of which data set it is an export, and where on the Hub codes and codebook came from. A
    run that goes on keeps what it noted."""
    if begun is not None:
        noted = begun.notes or {}
        return {name: noted[name] for name in (DEPTH, VERSIONS) if name in noted}
    names = member_names(opened_stores.episodes)
    codebook = opened_stores.book and recorded(opened_stores.book.path)
    depth: dict[str, dict[str, object]] = {}
    for name, target in zip(names, opened_stores.targets, strict=False):
        store = target if isinstance(target, CodeStore) else target.source
        origin = store.origin if isinstance(store, Store) else ""
        depth[name] = {
            "estimator": estimator_of(store),
            **(exported_from(store) if isinstance(store, Store) else {}),
            **_from_hub("codes" if store is target else "depth", origin),
            **_from_hub("codebook", codebook),
            **({"demo": True} if opened_stores.book and opened_stores.book.demo else {}),
        }
    return {VERSIONS: versions(), **({DEPTH: depth} if depth else {})}


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide the numbers; without those not installed."""
    numbers = {"python": platform.python_version()}
    for package in ("depthtok", "torch", "numpy", "safetensors"):
        with suppress(PackageNotFoundError):
            numbers[package] = version(package)
    return numbers


def _from_hub(name: str, origin: object) -> dict[str, str]:
    """Paths of this machine mean nothing elsewhere: they are not noted."""
    return {name: str(origin)} if str(origin).startswith("hf://") else {}
