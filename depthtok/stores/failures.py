"""Counts of failed episodes, by the stage that failed, in words for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Protocol, runtime_checkable


@runtime_checkable
class FailureText(Protocol):
    """What is used of a `depthtok.stores.parts.Failure`, whose module `--help` must not load."""

    @property
    def stage(self) -> str: ...


@runtime_checkable
class Recorded(Protocol):
    """A store, or what stands for one."""

    def failures(self) -> Iterable[FailureText]: ...


def left_out(store: Recorded) -> dict[str, int]:
    """How many episodes failed, by the stage that failed: in this store or in one before it."""
    return dict(Counter(failure.stage for failure in store.failures()))


def in_words(counts: Mapping[str, int]) -> str:
    """`5 failed episodes are left out: 3 in convert, 2 in annotate`; "" where there are none."""
    total = sum(counts.values())
    if not total:
        return ""
    stages = ", ".join(f"{count} in {stage}" for stage, count in counts.items())
    noun = "episode is" if total == 1 else "episodes are"
    return f"{total} failed {noun} left out: {stages}"
