"""Whether the Ray that a run depends on still answers.

Ray itself waits for minutes, or for ever, where its control service or its raylet is gone: a call
then hangs, or the process is aborted without a word. So both are asked for a connection twice a
second, and a run whose Ray is gone ends with an error.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from urllib.parse import urlsplit

from depthtok.errors import WorkerDied

CHECK_SECONDS = 0.5
ANSWER_SECONDS = 3.0  # to wait for one connection
LOCAL_PATIENCE = 1.5  # without an answer: a process on this machine that refuses is gone
CLUSTER_PATIENCE = 40.0  # a head may be restarted; after 60 s Ray aborts the process
LEAVE_SECONDS = 10.0  # for the main thread to come out of Ray, once it is lost

Place = tuple[str, int]


class Health:
    """Asks places for connections, in a thread of its own. `require` raises once one of them has
    not answered for `patience` seconds."""

    def __init__(self, places: Mapping[str, Place], patience: float) -> None:
        self._places, self.patience = places, patience
        self._answered = dict.fromkeys(places, time.monotonic())
        self.error: WorkerDied | None = None

    def require(self) -> None:
        """Raises `WorkerDied` if Ray is gone."""
        if self.error:
            raise self.error

    def check(self) -> None:
        """Asks each place once."""
        for name, place in self._places.items():
            if self.error or answers(place):
                self._answered[name] = time.monotonic()
            elif time.monotonic() - self._answered[name] > self.patience:
                self.error = _lost(name, place)


def answers(place: Place) -> bool:
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection(place, timeout=ANSWER_SECONDS).close()
    except OSError:
        return False
    return True


@contextmanager
def attended(ray: ModuleType, address: str | None) -> Iterator[Health]:
    """Looks after the Ray at `address` (None: a local one) during the block.

    Whatever error the block ends with, `WorkerDied` is raised if Ray is gone. Where even that
    cannot be raised, as the main thread does not come out of a call to Ray, the process is ended.
    """
    local = address in (None, "", "local")
    health = Health(places(ray, address), LOCAL_PATIENCE if local else CLUSTER_PATIENCE)
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(health, over), daemon=True)
    thread.start()
    try:
        yield health
    except Exception:
        if local:  # an error of Ray's own may come before its cause is known
            over.wait(health.patience + 2 * CHECK_SECONDS)
        health.require()
        raise
    finally:
        if health.error:
            ray.shutdown()  # while it is still looked after: this may hang as well
        over.set()
        thread.join(ANSWER_SECONDS)


def places(ray: ModuleType, address: str | None) -> dict[str, Place]:
    """What must answer: the control service, and the raylet through which this process takes part;
    or the server at a `ray://` address, which stands for both."""
    if address and address.startswith("ray://"):
        server = urlsplit(address)
        return {"the cluster's server": (server.hostname or "", server.port or 10001)}
    context = ray.get_runtime_context()
    control = urlsplit(f"//{context.gcs_address}")
    found = {"the control service (gcs_server)": (control.hostname, control.port)}
    for node in ray.nodes():
        if node["NodeID"] == context.get_node_id():
            raylet = node["NodeManagerAddress"], node["NodeManagerPort"]
            found["the raylet of this machine"] = raylet
    return found


def _watch(health: Health, over: threading.Event) -> None:
    while not health.error and not over.wait(CHECK_SECONDS):
        health.check()
    if not over.wait(LEAVE_SECONDS) and health.error:
        print(f"\nerror: {health.error.problem}\n  fix: {health.error.remedy}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(2)


def _lost(name: str, place: Place) -> WorkerDied:
    return WorkerDied(
        f"Ray is gone: {name} no longer answers at {place[0]}:{place[1]}",
        remedy="run the same command again: it resumes; if it happens again, check the memory of "
        "that machine and Ray's logs there (/tmp/ray/session_latest/logs)",
    )
