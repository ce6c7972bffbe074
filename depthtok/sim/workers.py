"""Jobs in processes of their own, each with one simulator: a renderer belongs to one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context, parent_process
from queue import Empty
from typing import Protocol, TypeVar

from depthtok.errors import DepthtokError

J = TypeVar("J", contravariant=True)
R = TypeVar("R", covariant=True)
POLL_SECONDS = 1.0


class Worker(Protocol[J, R]):
    """Does jobs one by one."""

    def do(self, job: J) -> R: ...


def run(build: Callable[[], Worker[J, R]], jobs: Sequence[J], workers: int) -> Iterator[R]:
    """Does all jobs, here (0 workers) or in `workers` processes, and yields what comes out.

    `build` makes a worker; it and the jobs travel by pickle. Raises the `DepthtokError` of a job,
    and one where a process died.
    """
    if not jobs:
        return
    if workers == 0:
        yield from map(build().do, jobs)
        return
    context = get_context("spawn")
    todo, done = context.Queue(), context.Queue()
    count = min(workers, len(jobs))
    for job in (*jobs, *[None] * count):
        todo.put(job)
    processes = [
        context.Process(target=_work, args=(build, todo, done), daemon=True) for _ in range(count)
    ]
    for process in processes:
        process.start()
    try:
        for _ in jobs:
            yield _next(done, processes)
        for process in processes:
            process.join(POLL_SECONDS)  # time to close what they hold
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _work(build: Callable[[], Worker[J, R]], todo, done) -> None:
    """The life of a worker process."""
    try:
        worker = build()
        while (job := _next_job(todo)) is not None:
            done.put(worker.do(job))
    except DepthtokError as error:
        done.put(error)


def _next_job(todo) -> object | None:
    """The next job; None where there is none, or where the process that gave them is gone: killed,
    it could not end its workers, and each holds a simulator."""
    while parent_process().is_alive():
        try:
            return todo.get(timeout=POLL_SECONDS)
        except Empty:
            continue
    return None


def _next(done, processes) -> object:
    """The next result. A process that died takes its job with it, so there may be none."""
    while True:
        dead = [process for process in processes if process.exitcode]
        try:
            found = done.get(timeout=POLL_SECONDS)
        except Empty:
            if not dead:
                continue
            raise DepthtokError(
                f"a worker process died (exit code {dead[0].exitcode}), perhaps for lack of memory "
                "(a simulator takes 2.2 GB)",
                remedy="run the same command again, with fewer --workers: what is finished is kept",
            ) from None
        if isinstance(found, DepthtokError):
            raise found
        return found
