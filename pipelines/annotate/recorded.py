"""The estimator that a store's depth, or that of its codes, was made with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from depthtok.data import DepthKind, EstimatorSpec
from depthtok.stores.filling import is_unmade
from depthtok.stores.spec import ROOT, read_spec


def recorded_estimator(out: Path) -> EstimatorSpec | None:
    """The estimator of the store at `out`; None where no part of one is made. Raises `StoreError`
    for a damaged store."""
    if not (out / ROOT).is_file() or is_unmade(out):
        return None
    what = read_spec(out).what
    of_depth = what.get("depth_what", what)  # of codes, that of their depth
    recorded = of_depth.get("estimator") if isinstance(of_depth, Mapping) else None
    if not recorded:
        return None
    settings = tuple((name, value) for name, value in recorded["settings"])
    return EstimatorSpec(**{**recorded, "kind": DepthKind(recorded["kind"]), "settings": settings})
