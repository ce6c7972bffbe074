"""SIGTERM and SIGINT: leave cleanly, so that the same command can go on later."""

from __future__ import annotations

import signal
import threading
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


class StopRequest:
    """Called, it tells whether a signal has come."""

    def __init__(self) -> None:
        self.signum = 0

    def __call__(self) -> bool:
        return self.signum != 0

    @property
    def stopped(self) -> Stopped:
        """What to raise after leaving for it. Without a signal here another rank had one."""
        return Stopped(self.signum or signal.SIGTERM)


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Notes a signal, for loops that finish their step. A second signal raises `Stopped`."""
    request = StopRequest()

    def note(signum: int, frame: object) -> None:
        if request():
            raise Stopped(signum)
        request.signum = signum

    with _handled(note):
        yield request


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Holds signals back until the block ends: for steps that must not be left half way.

    Keep such blocks short. In another thread than the main one, where no signal arrives, it does
    nothing.
    """
    received: list[int] = []
    try:
        with _handled(lambda signum, frame: received.append(signum)):
            yield
    finally:
        for signum in received[:1]:
            signal.raise_signal(signum)


@contextmanager
def kept_handlers() -> Iterator[None]:
    """Restores the present signal handlers when the block ends, whichever a library has set."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, old in before.items():
                signal.signal(number, old)


@contextmanager
def _handled(handler: Callable[[int, object], None]) -> Iterator[None]:
    """Has signals handled so in the block; in another thread than the main one none arrives."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with kept_handlers():
        for number in NUMBERS:
            signal.signal(number, handler)
        yield
