"""The quality gate: limits below which a codebook is not worth training a policy on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from depthtok.config import load_toml
from depthtok.data import DepthKind
from depthtok.json_values import JsonObject, value_of

FLIPS = "flips"
Limits = dict[str, dict[str, int | float]]  # by kind of depth, and figure
NEVER_JUDGED = "it was never judged: there is no quality report"
SIDES = {"min": "at least", "max": "at most"}
FIGURES = {
    "codes.used": "number of codes used",
    "codes.perplexity": "perplexity of the codes",
    "disparity.l1": "mean error, share of the range (L1)",
    "disparity.edge_f1": "share of edges found (F1)",
    "flips.far": "share of static cells far from motion whose code changes",
    "metres.abs_rel": "relative error of depth (AbsRel)",
    "metres.delta_1_25": "share of depth within a factor 1.25",
}
"""What the figures of the shipped limits are called, by their path in the quality report."""


@dataclass(frozen=True)
class JudgedLimit:
    """A limit, and the codebook's figure; `value` is None where it was not measured."""

    path: str  # dotted, into the quality report
    side: str  # a key of SIDES
    limit: float
    value: float | None

    @property
    def met(self) -> bool:
        """Whether the figure is on the right side; not if it is not known, or not a number."""
        if self.value is None:
            return False
        return self.value >= self.limit if self.side == "min" else self.value <= self.limit

    @property
    def figure(self) -> str:
        """What is limited, in words."""
        return FIGURES.get(self.path, self.path)

    def words(self) -> str:
        """`number of codes used: 52 (needed: at least 180)`."""
        value = "not measured" if self.value is None else f"{self.value:.4g}"
        return f"{self.figure}: {value} (needed: {SIDES[self.side]} {self.limit:g})"

    def __str__(self) -> str:
        # Stored in the specification of code stores: another wording is another fingerprint.
        if self.value is None:
            return f"{self.path} was not measured ({self.side} {self.limit:g})"
        return f"{self.path} is {self.value:.4g}, the limit is {self.side} {self.limit:g}"


def recorded_in_words(failure: str) -> str:
    """A missed limit as stores record it (`str` of a `JudgedLimit`), in words."""
    path, _, rest = failure.partition(" ")
    for side, words in SIDES.items():
        rest = rest.replace(f"limit is {side} ", f"limit is {words} ").replace(
            f"({side} ", f"({words} "
        )
    return f"{FIGURES.get(path, path)} {rest}"


def default_limits() -> Limits:
    """The shipped limits (vqvae/quality/limits.toml), by kind of depth."""
    return load_toml(Path(__file__).parent / "limits.toml")


def judged(quality: JsonObject, limits: Limits | None = None) -> Iterator[JudgedLimit]:
    """Every limit that applies to a codebook with the quality report `quality`.

    `limits` are tables by kind of depth; a key is a dotted path into the quality report with
    the suffix `_min` or `_max`.
    """
    kind = DepthKind(value_of(quality, "kind", str))
    table = (default_limits() if limits is None else limits)[kind]
    for name, limit in table.items():
        path, side = name.rsplit("_", 1)
        value = _lookup(quality, path)
        if value is None and path.startswith(FLIPS) and FLIPS not in quality:
            continue  # no static camera, so flips cannot be measured
        yield JudgedLimit(path, side, limit, value)


def failed_limits(quality: JsonObject, limits: Limits | None = None) -> list[str]:
    """The failed limits as code stores keep them; empty for a codebook that passes."""
    if not quality:
        return [NEVER_JUDGED]
    return [str(limit) for limit in judged(quality, limits) if not limit.met]


def shortfalls(quality: JsonObject) -> list[str]:
    """The failed limits, a sentence each for people; empty for a codebook that passes."""
    if not quality:
        return [NEVER_JUDGED]
    return [limit.words() for limit in judged(quality) if not limit.met]


def _lookup(quality: JsonObject, path: str) -> float | None:
    value: object = quality
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return float(value) if isinstance(value, int | float) else None
