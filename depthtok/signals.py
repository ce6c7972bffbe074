"""SIGTERM and SIGINT: leave cleanly, so that the same command can go on later."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

NUMBERS = (signal.SIGTERM, signal.SIGINT)


class Stopped(BaseException):
    """A signal asked to stop: leave at once; what is committed stays."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


@contextmanager
def stoppable() -> Iterator[None]:
    """Raises `Stopped` in the block when a signal comes, so that temporaries are cleared."""

    def stop(signum: int, frame: object) -> None:
        raise Stopped(signum)

    with _handled(stop):
        yield


@contextmanager
def stop_request() -> Iterator[Callable[[], bool]]:
    """Gives a function that tells whether a signal has come, for loops that finish their step.

    A second signal raises `Stopped`.
    """
    came: list[int] = []

    def note(signum: int, frame: object) -> None:
        if came:
            raise Stopped(signum)
        came.append(signum)

    with _handled(note):
        yield lambda: bool(came)


@contextmanager
def _handled(handler: Callable[[int, object], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in NUMBERS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
