"""The quality gate: limits below which a codebook is not worth training a policy on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from depthtok.config import load_toml
from depthtok.data import DepthKind

FLIPS = "flips"
Limits = dict[str, dict[str, int | float]]  # by kind of depth, and figure


def default_limits() -> Limits:
    """The shipped limits (vqvae/quality/limits.toml), by kind of depth."""
    return load_toml(Path(__file__).parent / "limits.toml")


def failed_limits(quality: Mapping[str, Any], limits: Limits | None = None) -> list[str]:
    """The failed limits, one sentence each; empty for a codebook that passes.

    `limits` are tables by kind of depth; a key is a dotted path into the quality report with
    the suffix `_min` or `_max`.
    """
    if not quality:
        # Stored in the specification of code stores: another wording is another fingerprint.
        return ["it was never judged: there is no quality report"]
    table = (default_limits() if limits is None else limits)[DepthKind(quality["kind"])]
    failures = []
    for name, limit in table.items():
        path, side = name.rsplit("_", 1)
        value = _lookup(quality, path)
        if value is None and path.startswith(FLIPS) and FLIPS not in quality:
            continue  # no static camera, so flips cannot be measured
        if value is None:
            failures.append(f"{path} was not measured ({side} {limit:g})")
        elif not (value >= limit if side == "min" else value <= limit):
            failures.append(f"{path} is {value:.4g}, the limit is {side} {limit:g}")
    return failures


def _lookup(quality: Mapping[str, Any], path: str) -> float | None:
    value: object = quality
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return float(value) if isinstance(value, int | float) else None
