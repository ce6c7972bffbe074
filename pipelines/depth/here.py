"""Whether weights may be fetched: a plan is made of what is on this machine.

This is of the whole process: threads that a plan starts fetch nothing either.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_PLANS: list[object] = []  # those that are being made


def may_fetch() -> bool:
    """Whether weights that are not on this machine may be fetched."""
    return not _PLANS


@contextmanager
def only_here() -> Iterator[None]:
    """Within it no weights are fetched: those that are not here raise `WeightsNotHere`."""
    _PLANS.append(None)
    try:
        yield
    finally:
        _PLANS.pop()
