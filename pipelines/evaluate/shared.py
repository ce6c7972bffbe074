"""One policy for several simulators: simulators in processes of their own, which ask this process.

Observations that wait at the same moment share a pass of the policy, up to its `batch`; a pass is
always as wide as that, and every trial has noise of its own, so that a trial's result does not
depend on how many simulators there are, nor on who asks beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float

from depthtok.errors import DepthtokError
from depthtok.meaning import Meaning
from pipelines.evaluate.trials import Arena, TrialJob, TrialOutcome
from vla.model.batch import Observation
from vla.serving.running import Running

READY, BEGINS, ASKS, DONE, ERROR = "ready", "begins", "asks", "done", "error"  # kinds of messages
PATIENCE_S = 0.2  # for others to ask, too
POLL_SECONDS = 1.0


@runtime_checkable
class Asked(Protocol):
    """What answers: `vla.serving.policy.Policy`, or a test double."""

    @property
    def running(self) -> Running: ...
    @property
    def meaning(self) -> Meaning | None: ...
    @property
    def cameras(self) -> tuple[str, ...]: ...

    def observe(self, observations: list[Mapping[str, object]]) -> Observation:
        """Observations as the model's input."""
        ...

    def acts(
        self, seen: Sequence[Observation], generators: Sequence[torch.Generator]
    ) -> list[np.ndarray]:
        """A chunk of actions [C A] for each."""
        ...


class Asking:
    """The policy as a simulator's process has it: it asks through a pipe. A `Player`."""

    def __init__(self, connection: Connection, meaning: Meaning | None, cameras: Sequence[str]):
        self._connection = connection
        self.meaning, self.cameras = meaning, tuple(cameras)
        self._seed = 0

    def reset(self, seed: int) -> None:
        """The next question begins a trial with this seed."""
        self._connection.send((BEGINS, seed))

    def act(self, observation: Mapping[str, object]) -> Float[np.ndarray, "C A"]:
        """The chunk of actions for an observation."""
        self._connection.send((ASKS, observation))
        answer = self._connection.recv()
        if isinstance(answer, DepthtokError):
            raise answer
        return answer


@dataclass
class _Simulating:
    """A process with a simulator, as the asked side has it."""

    process: BaseProcess
    connection: Connection
    noise: torch.Generator
    observation: Mapping[str, object] | None = None  # that waits for an answer
    ended: bool = False  # no job was left for it


def run(
    build: Callable[[Asking], Arena], policy: Asked, jobs: Sequence[TrialJob], workers: int
) -> Iterator[TrialOutcome]:
    """Runs all jobs in `workers` processes (at least one) and yields results as they come.

    `build` makes the arena of a process; it and the jobs must be picklable. Re-raises the
    `DepthtokError` of a job, and raises one if a process died.
    """
    context = get_context("spawn")
    todo, simulating = list(reversed(jobs)), []
    try:
        for _ in range(min(max(1, workers), len(jobs))):
            ours, theirs = context.Pipe()
            arguments = (build, theirs, policy.meaning, policy.cameras)
            process = context.Process(target=_simulate, args=arguments, daemon=True)
            process.start()
            theirs.close()
            simulating.append(_Simulating(process, ours, torch.Generator()))
        while active := [one for one in simulating if not one.ended]:
            yield from _heard(active, policy.running.batch, todo)
            asking = [one for one in active if one.observation is not None]
            _answer(asking[: policy.running.batch], policy)
    finally:
        for one in simulating:
            one.connection.close()  # which ends it
        for one in simulating:
            one.process.join(POLL_SECONDS)  # time to release its resources
            one.process.terminate()
            one.process.join()


def _heard(
    active: Sequence[_Simulating], width: int, todo: list[TrialJob]
) -> Iterator[TrialOutcome]:
    """Reads what comes from the processes, until all of them wait for an answer, a pass is full, or
    the first has waited for a moment; yields what is done."""
    first_s = None
    while True:
        listening = [one for one in active if one.observation is None]
        waiting = len(active) - len(listening)
        if waiting >= width or not listening:
            return
        now_s = time.monotonic()
        first_s = first_s or (now_s if waiting else None)
        connections = [one.connection for one in listening]
        heard = wait(connections, None if first_s is None else first_s + PATIENCE_S - now_s)
        if not heard:
            return
        for one in listening:
            if one.connection in heard:
                yield from _done(one, todo)
        if any(one.ended for one in active):
            return


def _done(one: _Simulating, todo: list[TrialJob]) -> Iterator[TrialOutcome]:
    """Reads one message; yields the outcome that it may be."""
    kind, value = _received(one)
    if kind == READY:
        job = todo.pop() if todo else None
        one.ended = job is None
        _send(one, job)
    elif kind == BEGINS:
        one.noise = torch.Generator().manual_seed(value)
    elif kind == ASKS:
        one.observation = value
    elif kind == ERROR:
        raise value
    else:
        yield value


def _received(one: _Simulating) -> tuple:
    with _alive(one):
        return one.connection.recv()


def _send(one: _Simulating, value: object) -> None:
    with _alive(one):
        one.connection.send(value)


@contextmanager
def _alive(one: _Simulating) -> Iterator[None]:
    """Turns the end of a process into an error that says so."""
    try:
        yield
    except (EOFError, ConnectionError) as error:
        one.process.join(POLL_SECONDS)
        raise DepthtokError(
            f"a worker process died (exit code {one.process.exitcode}), perhaps out of memory "
            "(a simulator takes 2.2 GB)",
            remedy="run the same command again, with fewer --simulators: finished jobs are kept",
        ) from error


def _answer(asking: Sequence[_Simulating], policy: Asked) -> None:
    """One pass; what is wrong with one observation is told to who sent it."""
    if not asking:
        return
    observations = {}
    for number, one in enumerate(asking):
        observation, one.observation = one.observation, None
        try:
            observations[number] = policy.observe([observation or {}])
        except DepthtokError as error:
            _send(one, error)
    if observations:
        chunks = policy.acts(
            [*observations.values()], [asking[number].noise for number in observations]
        )
        for number, actions in zip(observations, chunks, strict=True):
            _send(asking[number], actions)


def _simulate(
    build: Callable[[Asking], Arena],
    connection: Connection,
    meaning: Meaning | None,
    cameras: Sequence[str],
) -> None:
    """The main loop of a process with a simulator; it ends with the jobs, or with who asked."""
    try:
        arena = build(Asking(connection, meaning, cameras))
        while True:
            connection.send((READY, None))
            if (job := connection.recv()) is None:
                return
            connection.send((DONE, arena.do(job)))
    except (EOFError, ConnectionError):
        return
    except DepthtokError as error:
        connection.send((ERROR, error))
