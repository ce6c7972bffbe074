"""Jobs in separate processes, each with one simulator: a renderer cannot be shared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context, parent_process
from multiprocessing.context import SpawnProcess
from multiprocessing.queues import Queue
from queue import Empty
from typing import Protocol, TypeVar, runtime_checkable

from depthtok.errors import DepthtokError

Job = TypeVar("Job")
Result = TypeVar("Result")
JobIn = TypeVar("JobIn", contravariant=True)
ResultOut = TypeVar("ResultOut", covariant=True)
POLL_SECONDS = 1.0


@runtime_checkable
class Worker(Protocol[JobIn, ResultOut]):
    """Processes jobs one by one."""

    def do(self, job: JobIn) -> ResultOut: ...


def run(
    build: Callable[[], Worker[Job, Result]], jobs: Sequence[Job], workers: int
) -> Iterator[Result]:
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
    todo: Queue[Job | None] = context.Queue()
    results: Queue[Result | DepthtokError] = context.Queue()
    count = min(workers, len(jobs))
    for job in (*jobs, *[None] * count):
        todo.put(job)
    arguments = (build, todo, results)
    processes = [context.Process(target=_work, args=arguments, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        for _ in jobs:
            yield _next(results, processes)
        for process in processes:
            process.join(POLL_SECONDS)  # time to release their resources
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _work(
    build: Callable[[], Worker[Job, Result]],
    todo: Queue[Job | None],
    results: Queue[Result | DepthtokError],
) -> None:
    """The main loop of a worker process."""
    try:
        worker = build()
        while (job := _next_job(todo)) is not None:
            results.put(worker.do(job))
    except DepthtokError as error:
        results.put(error)


def _next_job(todo: Queue[Job | None]) -> Job | None:
    """The next job; None if there is none, or if the parent process was killed and could not stop
    its workers, each of which holds a simulator."""
    parent = parent_process()
    while parent is not None and parent.is_alive():
        try:
            return todo.get(timeout=POLL_SECONDS)
        except Empty:
            continue
    return None


def _next(results: Queue[Result | DepthtokError], processes: Sequence[SpawnProcess]) -> Result:
    """The next result. Raises `DepthtokError` for a job that raised one, and where a process died,
    as it never finishes its job."""
    while True:
        dead = [process for process in processes if process.exitcode]
        try:
            result = results.get(timeout=POLL_SECONDS)
        except Empty:
            if not dead:
                continue
            raise DepthtokError(
                f"a worker process died (exit code {dead[0].exitcode}), perhaps out of memory "
                "(a simulator takes 2.2 GB)",
                remedy="run the command again, with fewer --simulators: finished jobs are kept",
            ) from None
        if isinstance(result, DepthtokError):
            raise result
        return result
