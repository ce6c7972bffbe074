"""Runs of a study in processes of their own: so many at once, and of lower priority if asked.

Each is one core's work. What it says goes to a log beside its result. One that fails is told in the
end, and stops no other. A signal to the parent is passed on, so that trainings keep a checkpoint;
where the parent is killed, they notice and leave in the same way.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Protocol, runtime_checkable

from depthtok.disk.files import output_errors
from depthtok.errors import DepthtokError

POLL_SECONDS = 1.0
LEAVE_SECONDS = 60.0  # for a checkpoint; then it is ended


@runtime_checkable
class Job(Protocol):
    """Something to run; picklable."""

    @property
    def title(self) -> str: ...

    @property
    def log(self) -> Path: ...

    def carry_out(self) -> None: ...


@dataclass(frozen=True)
class Finished:
    """A job that ended, and what it failed of, if it did."""

    job: Job
    failure: str = ""


@dataclass(frozen=True)
class _Running:
    job: Job
    process: SpawnProcess
    says: Connection


def run(jobs: Sequence[Job], at_once: int, nice: int) -> Iterator[Finished]:
    """Runs all jobs, `at_once` at a time; yields them as they end."""
    context, todo, running = get_context("spawn"), list(jobs), dict[int, _Running]()
    try:
        while todo or running:
            while todo and len(running) < at_once:
                child = _begin(context.Process, context.Pipe, todo.pop(0), nice)
                running[child.process.sentinel] = child
            for sentinel in wait(list(running), POLL_SECONDS):
                assert isinstance(sentinel, int)
                yield _ended(running.pop(sentinel))
    finally:
        _stop([job.process for job in running.values()])


def _begin(make: Callable, pipe: Callable, job: Job, nice: int) -> _Running:
    with output_errors(job.log):
        job.log.parent.mkdir(parents=True, exist_ok=True)
        job.log.touch()
    says, speaks = pipe(duplex=False)
    process = make(target=_work, args=(job, nice, speaks))
    process.start()
    speaks.close()
    return _Running(job, process, says)


def _ended(running: _Running) -> Finished:
    """What a process left behind."""
    running.process.join()
    failure = ""
    try:
        if running.says.poll():
            failure = running.says.recv()
    except EOFError:
        pass  # it said nothing
    running.says.close()
    if not failure and running.process.exitcode:
        failure = f"its process ended with exit code {running.process.exitcode}; {running.job.log}"
    return Finished(running.job, failure)


def _stop(processes: Sequence[SpawnProcess]) -> None:
    """Asks processes to leave, and ends those that do not."""
    for process in processes:
        process.terminate()
    latest = time.monotonic() + LEAVE_SECONDS
    for process in processes:
        process.join(max(0.0, latest - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


def _work(job: Job, nice: int, speaks: Connection) -> None:
    """The whole life of a process."""
    os.nice(nice)
    with job.log.open("a", buffering=1) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    try:
        job.carry_out()
    except DepthtokError as error:
        speaks.send(in_words(error))
        sys.exit(1)
    except Exception as error:  # told to the parent, whatever it is
        traceback.print_exc()
        speaks.send(f"{type(error).__name__}: {error}; see {job.log}")
        sys.exit(1)


def in_words(error: DepthtokError) -> str:
    """What a run failed of, and what mends it, in one line."""
    return f"{error.problem} (to mend it: {error.remedy})"


def _leave_with_parent() -> None:
    """Stops this process as a signal would, once its parent is gone."""
    parent = parent_process()
    while parent is not None and parent.is_alive():
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
