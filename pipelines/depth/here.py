"""Whether weights may be fetched: a plan is made of what is on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_FETCHES: ContextVar[bool] = ContextVar("fetches", default=True)


def may_fetch() -> bool:
    """Whether weights that are not on this machine may be fetched."""
    return _FETCHES.get()


@contextmanager
def only_here() -> Iterator[None]:
    """Within it no weights are fetched: those that are not here raise `WeightsNotHere`."""
    before = _FETCHES.set(False)
    try:
        yield
    finally:
        _FETCHES.reset(before)
