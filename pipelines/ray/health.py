"""Whether the Ray that a run depends on still answers, and has room for what is to be started.

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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

from depthtok.errors import DepthtokError, WorkerDied
from depthtok.log import warn
from pipelines.ray.reaper import marked

CHECK_SECONDS = 0.5
ANSWER_SECONDS = 3.0  # to wait for one connection
LOCAL_PATIENCE = 1.5  # without an answer: a process on this machine that refuses is gone
CLUSTER_PATIENCE = 40.0  # a head may be restarted; after 60 s Ray aborts the process
ROOM_CHECK_SECONDS = 10.0
ROOM_SECONDS = 900.0  # machines on demand take minutes to start
LEAVE_SECONDS = 10.0  # for the main thread to come out of Ray, once it is lost
REMEDY = (
    "run the same command again: it resumes; if it happens again, check the memory of that machine "
    "and Ray's logs there (/tmp/ray/session_latest/logs)"
)

Place = tuple[str, int]  # host and port
Question = Callable[[], bool]  # whether something is still there


class Health:
    """Whether what a run needs is still there: `require` raises once one of the questions has been
    answered with no for `patience` seconds. Another thread calls `check`."""

    def __init__(self, questions: Mapping[str, Question], patience: float) -> None:
        self._questions, self.patience = questions, patience
        self._answered = dict.fromkeys(questions, time.monotonic())
        self.error: WorkerDied | None = None

    def require(self) -> None:
        """Raises `WorkerDied` if Ray is gone."""
        if self.error:
            raise self.error

    def check(self) -> None:
        """Asks each question once."""
        for name, question in self._questions.items():
            if self.error or question():
                self._answered[name] = time.monotonic()
            elif time.monotonic() - self._answered[name] >= self.patience:
                self.error = WorkerDied(f"Ray is gone: {name}", remedy=REMEDY)


def answers(place: Place) -> bool:
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection(place, timeout=ANSWER_SECONDS).close()
    except OSError:
        return False
    return True


@contextmanager
def attended(ray: ModuleType, address: str | None) -> Iterator[Health]:
    """Watches the Ray at `address` (None: a local one) during the block, see `guarded`."""
    patience = LOCAL_PATIENCE if address in (None, "", "local") else CLUSTER_PATIENCE
    questions = {
        f"{name} no longer answers at {server[0]}:{server[1]}": partial(answers, server)
        for name, server in places(ray, address).items()
    }
    with guarded(Health(questions, patience)) as health:
        try:
            yield health
        finally:
            if health.error:
                ray.shutdown()  # while it is still watched: this may hang as well


@contextmanager
def starting(mark: str) -> Iterator[None]:
    """Watches the marked processes of a local Ray as it starts, see `guarded`. Raises `WorkerDied`
    where it does not."""
    started: set[int] = set()

    def all_live() -> bool:
        present = {process for process in marked(mark) if _serves(process)}
        started.update(present)
        return present == started

    with guarded(Health({"one of its processes ended as it started": all_live}, 0.0)):
        try:
            yield
        except DepthtokError:
            raise
        except Exception as error:  # Ray raises bare ones
            reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            raise WorkerDied(f"Ray did not start: {reason[0]}", remedy=REMEDY) from error


def _serves(process: int) -> bool:
    """Whether a process is the control service or the raylet that this process has started."""
    entry = Path("/proc") / str(process)
    try:
        program = (entry / "cmdline").read_bytes().split(b"\0")[0]
        parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return False
    return parent == os.getpid() and program.endswith((b"/gcs_server", b"/raylet"))


@contextmanager
def guarded(health: Health) -> Iterator[Health]:
    """Checks `health` during the block. Whatever error the block ends with, `WorkerDied` is raised
    if Ray is gone. Where even that cannot be raised, as the main thread does not come out of a
    call to Ray, the process is ended with that error."""
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(health, over), daemon=True)
    thread.start()
    try:
        yield health
    except Exception:  # whatever it is, it is raised again, unless Ray's end was the cause
        if health.patience <= LOCAL_PATIENCE:  # Ray's own error may come before its cause is known
            over.wait(health.patience + 2 * CHECK_SECONDS)
        health.require()
        raise
    finally:
        over.set()
        thread.join(ANSWER_SECONDS)


def places(ray: ModuleType, address: str | None) -> dict[str, Place]:
    """What must answer: the control service, and the raylet through which this process takes part;
    or the server at a `ray://` address, which stands for both."""
    if address and address.startswith("ray://"):
        server = urlsplit(address)
        return {"the cluster's server": (server.hostname or "", server.port or 10001)}
    context = ray.get_runtime_context()
    host, _, port = context.gcs_address.rpartition(":")
    services = {"the control service (gcs_server)": (host.strip("[]"), int(port))}
    for node in ray.nodes():
        if node["NodeID"] == context.get_node_id():
            raylet = node["NodeManagerAddress"], node["NodeManagerPort"]
            services["the raylet of this machine"] = raylet
    return services


class Room:
    """Whether a cluster has room at all for what is to be started (`needs`, in words). One that
    starts machines on demand may have none at first, and one that lost its machines may get others:
    both are waited for, with a warning, but not for ever."""

    def __init__(self, enough: Question, needs: str) -> None:
        self._enough, self._needs = enough, needs
        self._asked = self._since = time.monotonic()
        self._warned = False

    def require(self) -> None:
        """To be called now and then. Raises `WorkerDied` after `ROOM_SECONDS` without room."""
        now = time.monotonic()
        if now - self._asked < ROOM_CHECK_SECONDS:
            return
        self._asked = now
        if self._enough():
            self._since, self._warned = now, False
        elif now - self._since > ROOM_SECONDS:
            raise WorkerDied(
                f"the cluster had no room for {self._needs} for {ROOM_SECONDS / 60:.0f} minutes",
                remedy="add machines to it (`ray status` shows those that are there) and run the "
                "same command again: it resumes; or ask for less",
            )
        elif not self._warned:
            warn(f"the cluster has no room for {self._needs}: waiting for a machine that has")
            self._warned = True


def _watch(health: Health, over: threading.Event) -> None:
    while not health.error and not over.wait(CHECK_SECONDS):
        health.check()
    if not over.wait(LEAVE_SECONDS) and health.error:
        print(f"\nerror: {health.error.problem}\n  fix: {health.error.remedy}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(2)
