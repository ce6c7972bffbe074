"""Starting Ray: a local instance for the duration of a block, or joining a cluster.

Ray is used by `ray_pool.py` (stages) and `ray_ranks.py` (training on many processes); nothing else
imports it.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from types import ModuleType
from typing import Protocol, runtime_checkable
from urllib.parse import urlsplit

from depthtok.errors import ConfigError, WorkerDied
from depthtok.signals import Stopped, kept_handlers
from pipelines.ray.health import starting
from pipelines.ray.reaper import VARIABLE, reaped

ANSWER_SECONDS = 5.0  # to wait for a connection to a cluster; Ray tries for minutes
PORTS = {"ray": 10001}  # default ports
LOCAL = (None, "", "local")  # addresses of a Ray of our own
LOCAL_SETTINGS = {
    # Agents of a raylet that dies fill the screen 5 such checks later: by then the run has ended.
    "RAY_DASHBOARD_AGENT_CHECK_PARENT_INTERVAL_S": "3"
}

Ref = object
"""What Ray gives for a result that is not there yet (`ray.ObjectRef`)."""


@runtime_checkable
class RemoteMethod(Protocol):
    """A method of an actor."""

    def remote(self, *arguments: object) -> Ref: ...


@runtime_checkable
class Actor(Protocol):
    """Ray's handle of an object in another process: has the methods of its class."""

    def __getattr__(self, name: str) -> RemoteMethod: ...


def never_started(error: Exception) -> bool:
    """Whether Ray's error of an actor says that it could not even start."""
    return bool(getattr(error, "actor_init_failed", False))


def could_not_start(name: str, error: Exception) -> WorkerDied:
    """What to raise for an actor that could not: Ray's last line says why."""
    return WorkerDied(
        f"{name} could not start: {str(error).strip().splitlines()[-1]}",
        remedy="install the same depthtok and Python on every machine of the cluster",
    )


@contextmanager
def cluster(cpus: float, address: str | None) -> Iterator[ModuleType]:
    """Ray for the block: already started by the caller, the cluster at `address`, or a local one
    with at least `cpus` cores. Raises `ConfigError` if no cluster answers."""
    import ray

    if ray.is_initialized():  # the caller started Ray, and it stays up
        yield ray
        return
    with ExitStack() as stack:
        reaper = stack.enter_context(reaped() if address in LOCAL else nullcontext())
        stack.callback(ray.shutdown)
        with _marking(reaper.mark) if reaper and reaper.mark else nullcontext():
            _connect(ray, cpus, address)
        if reaper:
            reaper.started()
        yield ray


@contextmanager
def _marking(mark: str) -> Iterator[None]:
    """A local Ray that is started in the block has the mark, and is looked after as it starts."""
    variables = {VARIABLE: mark, **LOCAL_SETTINGS}
    values_before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        with starting(mark):
            yield
    finally:
        for name, value in values_before.items():
            os.environ.pop(name)
            os.environ.update({} if value is None else {name: value})


def address_of(flag: str | None) -> str | None:
    """The address of the cluster to join, from a flag or the environment; None for a local Ray."""
    return flag or os.environ.get("RAY_ADDRESS") or None


def has_gpus(address: str) -> bool:
    """Whether any machine of a cluster has a GPU. Raises `ConfigError` where no cluster answers."""
    require_answer(address)
    with cluster(0, address) as ray:
        return bool(ray.cluster_resources().get("GPU"))


def _connect(ray: ModuleType, cpus: float, address: str | None) -> None:
    """Joins the cluster at `address`, or starts one: without an address, Ray itself would join any
    that runs on this machine, somebody else's too."""
    address = address or "local"
    settings: dict[str, object] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        settings |= {"num_cpus": max(os.cpu_count() or 1, round(cpus)), "include_dashboard": False}
    try:
        with kept_handlers():  # Ray replaces them
            ray.init(address=address, **settings)
    except ConnectionError as error:
        if address == "local":
            raise
        raise _no_cluster(address, error) from error
    except (SystemExit, Stopped) as stop:  # SystemExit: Ray's handler, until `kept_handlers` ends
        signal.alarm(0)  # Ray's handler in C++ has set one, to abort the process 3 s after it
        raise stop if isinstance(stop, Stopped) else Stopped(signal.SIGTERM) from stop


def require_answer(address: str | None) -> None:
    """Raises `ConfigError` unless `host:port` or `ray://host:port` accepts connections.

    None and the names that Ray resolves itself (`auto`, `local`) are not checked: Ray finds out at
    once whether they work.
    """
    if address in (None, "auto", "local"):
        return
    try:
        url = urlsplit(address if "://" in address else f"//{address}")
        host, port = url.hostname, url.port or PORTS.get(url.scheme)
    except ValueError:
        host, port = None, None
    if not host or not port:
        raise ConfigError(
            f"{address!r} is not an address of a Ray cluster",
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
        "if it needs a token, set RAY_AUTH_MODE=token and put the cluster's token in "
        "~/.ray/auth_token",
    )
