"""Ray itself: one of one's own for the length of a block, or a cluster that is joined.

What works on it is in `ray_pool.py` (stages) and `ray_ranks.py` (one training, many processes);
nothing else imports Ray.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from urllib.parse import urlsplit

from depthtok.errors import ConfigError
from depthtok.signals import Stopped, kept_handlers

ANSWER_SECONDS = 5.0  # for a cluster's address to accept a connection; Ray tries for minutes
PORTS = {"ray": 10001}  # of addresses that name none


@contextmanager
def cluster(cpus: float, address: str | None) -> Iterator[ModuleType]:
    """Ray, for the block: as the caller has started it, the cluster at `address`, or one of one's
    own that counts at least `cpus` cores. Raises `ConfigError` where no cluster answers."""
    import ray

    joined = ray.is_initialized()  # a Ray that the caller started stays
    if not joined:
        _connect(ray, cpus, address)
    try:
        yield ray
    finally:
        if not joined:
            ray.shutdown()


def address_of(given: str | None) -> str | None:
    """Of the cluster to join, from a flag or the environment; None for a Ray of one's own."""
    return given or os.environ.get("RAY_ADDRESS")


def _connect(ray: ModuleType, cpus: float, address: str | None) -> None:
    local = {} if address else {
        "num_cpus": max(os.cpu_count() or 1, round(cpus)), "include_dashboard": False,
    }  # fmt: skip
    try:
        with kept_handlers():  # Ray puts its own in their place
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", **local)
    except ConnectionError as error:
        raise _no_cluster(address, error) from error
    except SystemExit as stop:  # of Ray's own handler of SIGTERM, until `kept_handlers` ends
        raise Stopped(signal.SIGTERM) from stop


def require_answer(address: str | None) -> None:
    """Raises `ConfigError` unless somebody accepts connections at `host:port` or `ray://host:port`.

    No address, and names that Ray looks up itself (`auto`, `local`) pass: it finds out at once
    whether they lead anywhere.
    """
    if address in (None, "auto", "local"):
        return
    try:
        place = urlsplit(address if "://" in address else f"//{address}")
        host, port = place.hostname, place.port or PORTS.get(place.scheme)
    except ValueError:
        host, port = None, None
    if not host or not port:
        raise ConfigError(
            f"{address!r} is no address of a Ray cluster",
            remedy="give HOST:PORT (`ray start --head` prints it), ray://HOST:PORT, or auto",
        )
    try:
        socket.create_connection((host, port), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str | None, error: OSError) -> ConfigError:
    return ConfigError(
        f"no Ray cluster answers at {address}: {error}",
        remedy="start one with `ray start --head`, or leave --ray-address (and RAY_ADDRESS) out; "
        "where it wants a token, set RAY_AUTH_MODE=token and have the cluster's token in "
        "~/.ray/auth_token",
    )
