"""Another attempt after trouble that may pass: bounded, and each wait twice the one before."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from depthtok.remote.errors import Trouble, gave_up
from depthtok.remote.limits import Limits

T = TypeVar("T")


def persistently(attempt: Callable[[], T], where: object, limits: Limits) -> T:
    """What `attempt` returns, once it does. Raises `SourceUnavailable` after the last `Trouble`;
    every other error at once."""
    wait = limits.first_wait_s
    for number in range(1, limits.attempts + 1):
        try:
            return attempt()
        except Trouble as trouble:
            if number == limits.attempts:
                raise gave_up(where, str(trouble), number) from trouble
        time.sleep(wait * random.uniform(0.5, 1.0))  # many that failed at once come back apart
        wait = min(2 * wait, limits.longest_wait_s)
    raise AssertionError("there is at least one attempt")
