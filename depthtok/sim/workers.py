"""Jobs in separate processes, each with one simulator: a renderer cannot be shared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context, parent_process
from queue import Empty
from typing import Protocol, TypeVar, runtime_checkable

from depthtok.errors import DepthtokError

J = TypeVar("J", contravariant=True)
R = TypeVar("R", covariant=True)
POLL_SECONDS = 1.0


@runtime_checkable
class Worker(Protocol[J, R]):
    """Processes jobs one by one."""

    def do(self, job: J) -> R: ...


def run(build: Callable[[], Worker[J, R]], jobs: Sequence[J], workers: int) -> Iterator[R]:
    """Runs all jobs, in this process (0 workers) or in `workers` processes, and yields results.

    `build` makes a worker; it and the jobs must be picklable. Re-raises the `DepthtokError` of a
    job, and raises one if a process died.
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
            process.join(POLL_SECONDS)  # time to release their resources
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _work(build: Callable[[], Worker[J, R]], todo, done) -> None:
    """The main loop of a worker process."""
    try:
        worker = build()
        while (job := _next_job(todo)) is not None:
            done.put(worker.do(job))
    except DepthtokError as error:
        done.put(error)


def _next_job(todo) -> object | None:
    """The next job; None if there is none, or if the parent process was killed and could not stop
    its workers, each of which holds a simulator."""
    while parent_process().is_alive():
        try:
            return todo.get(timeout=POLL_SECONDS)
        except Empty:
            continue
    return None


def _next(done, processes) -> object:
    """The next result. There may be none, because a dead process never finishes its job."""
    while True:
        dead = [process for process in processes if process.exitcode]
        try:
            found = done.get(timeout=POLL_SECONDS)
        except Empty:
            if not dead:
                continue
            raise DepthtokError(
                f"a worker process died (exit code {dead[0].exitcode}), perhaps out of memory "
                "(a simulator takes 2.2 GB)",
                remedy="run the same command again, with fewer --workers: finished jobs are kept",
            ) from None
        if isinstance(found, DepthtokError):
            raise found
        return found
