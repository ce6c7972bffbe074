"""Training on many processes with Ray: one actor per rank, in one placement group.

A rank's environment is set as by torchrun, and it runs the same function as under torchrun. All or
nothing: if one rank ends early the run ends, and the same command resumes from the last
checkpoint.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar

from depthtok.errors import ConfigError, DepthtokError, WorkerDied
from depthtok.signals import Stopped, kept_handlers, uninterrupted
from pipelines.ray.cluster import (
    Actor,
    Ref,
    address_of,
    cluster,
    could_not_start,
    never_started,
    require_answer,
)
from pipelines.ray.health import Health, Room, attended

POLL_SECONDS = 0.5
BLAME_SECONDS = 5.0  # to wait after one rank's error for the rank that caused it

Line = Mapping[str, float]
Result = TypeVar("Result")
Task = Callable[[Callable[[Line], None], Callable[[], bool]], Result]


class _Rank:
    """Runs in an actor. `location`, `take` and `stop` can be called while `run` runs."""

    def __init__(self) -> None:
        self._lines: list[Line] = []
        self._stopped = False

    def location(self) -> tuple[str, str, int]:
        """The address of this machine, a name for this process, and a free port."""
        import ray

        with socket.socket() as unused:
            unused.bind(("", 0))
            port = unused.getsockname()[1]
        address = ray.util.get_node_ip_address()
        return address, f"process {os.getpid()} on {address}", port

    def run(self, task: Task[Result], environment: Mapping[str, str], folder: Path) -> Result:
        """Runs the task, with these variables, in `folder` if this machine has it."""
        os.environ.update(environment)
        if folder.is_dir():  # relative paths refer to where the command was given
            os.chdir(folder)
        return task(self._lines.append, lambda: self._stopped)

    def take(self, start: int) -> list[Line]:
        """The lines that the task has reported after its first `start` lines."""
        return self._lines[start:]

    def stop(self) -> None:
        self._stopped = True


def run_on_ranks(
    task: Task[Result],
    count: int,
    *,
    device: str,
    address: str | None,
    on_line: Callable[[Line], None],
    should_stop: Callable[[], bool],
) -> Result:
    """Runs `task(say, should_stop)` on `count` ranks; returns its result on rank 0.

    Each rank gets one GPU if the cluster has any and `device` is not `cpu`. What rank 0 says is
    passed to `on_line`; `should_stop` is passed on to every rank. Raises `ConfigError` if the
    cluster is too small, `WorkerDied` naming a rank that died, or a rank's own error.
    """
    address = address_of(address)
    require_answer(address)
    with cluster(count, address) as ray, attended(ray, address) as health, kept_handlers():
        ranks = _Ranks(ray, task, on_line, should_stop, health)
        try:
            with uninterrupted():
                room = ranks.place(count, device)
            ranks.begin(room)
            return ranks.finish()
        finally:
            if not health.error:
                ranks.end()


@dataclass
class _Ranks(Generic[Result]):
    """The actors of a run by rank."""

    ray: ModuleType
    task: Task[Result]
    on_line: Callable[[Line], None]
    should_stop: Callable[[], bool]
    health: Health
    group: object = None  # Ray's placement group
    actors: list[Actor] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    running: dict[Ref, int] = field(default_factory=dict)  # pending result of `run` -> rank
    lines_shown: int = 0

    def place(self, count: int, device: str) -> Room:
        """Reserves the resources of all ranks at once, close together; returns whether there is
        room for them."""
        from ray.util import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        total = self.ray.cluster_resources()
        needs = {"CPU": 1.0}
        if total.get("GPU") and device != "cpu":
            needs["GPU"] = 1.0
        for kind, number in needs.items():
            if total.get(kind, 0) < number * count:
                raise ConfigError(
                    f"{count} ranks need {number * count:g} {kind}s, the cluster has "
                    f"{total.get(kind, 0):g}",
                    remedy="give fewer --ranks, add machines, or name the cluster: --ray-address",
                )
        group = self.group = placement_group([dict(needs) for _ in range(count)], "PACK")
        for rank in range(count):
            bundle = PlacementGroupSchedulingStrategy(group, rank)
            resources = {"num_cpus": 1, "num_gpus": needs.get("GPU", 0), "max_concurrency": 2}
            remote = self.ray.remote(_Rank).options(scheduling_strategy=bundle, **resources)
            self.actors.append(remote.remote())
        return Room(lambda: self._fits(needs, count), f"{count} ranks")

    def _fits(self, needs: Mapping[str, float], count: int) -> bool:
        total = self.ray.cluster_resources()
        return all(total.get(kind, 0) >= number * count for kind, number in needs.items())

    def begin(self, room: Room) -> None:
        """Starts the task on all ranks, once their resources are available. Raises `WorkerDied`
        for a rank that cannot start."""
        pending = [actor.location.remote() for actor in self.actors]
        while len(self._ready(pending, len(pending))) < len(pending):
            with uninterrupted():
                room.require()
            if self.should_stop():
                raise Stopped(15)
        locations = [self._location(rank, answer) for rank, answer in enumerate(pending)]
        master, _, port = locations[0]
        self.names = [f"rank {rank} ({name})" for rank, (_, name, _) in enumerate(locations)]
        addresses = [address for address, _, _ in locations]
        shared = {"MASTER_ADDR": master, "MASTER_PORT": str(port), "LOCAL_RANK": "0"}
        shared["WORLD_SIZE"] = str(len(locations))  # LOCAL_RANK: an actor sees only its own GPU
        for rank, actor in enumerate(self.actors):
            local_size = str(addresses.count(addresses[rank]))
            environment = {**shared, "RANK": str(rank), "LOCAL_WORLD_SIZE": local_size}
            self.running[actor.run.remote(self.task, environment, Path.cwd())] = rank

    def _location(self, rank: int, answer: Ref) -> tuple[str, str, int]:
        try:
            with uninterrupted():
                return self.ray.get(answer)
        except self.ray.exceptions.RayError as error:
            name = f"rank {rank}"
            raise (could_not_start if never_started(error) else _died)(name, error) from error

    def finish(self) -> Result:
        """Waits for all ranks, passing on rank 0's lines, and the stop request to all; returns the
        result of rank 0."""
        results: dict[int, Result] = {}
        stopping = False
        while self.running:
            for result in self._ready(list(self.running), 1):
                rank = self.running.pop(result)
                try:
                    results[rank] = self._get(result)
                except self.ray.exceptions.RayError as error:
                    raise self._blamed(rank, error) from None
            self._show()
            if self.should_stop() and not stopping:
                stopping = True
                with uninterrupted():
                    for actor in self.actors:
                        actor.stop.remote()
        return results[0]

    def end(self) -> None:
        """Ends all actors and releases their resources."""
        from ray.util import remove_placement_group

        with uninterrupted():
            for actor in self.actors:
                self.ray.kill(actor)
            if self.group is not None:
                remove_placement_group(self.group)

    def _ready(self, pending: list[Ref], count: int) -> list[Ref]:
        """Those of the pending results that are there; waits a while until there are `count`."""
        self.health.require()
        with uninterrupted():  # an exception inside Ray's own code would be replaced
            return self.ray.wait(pending, num_returns=count, timeout=POLL_SECONDS)[0]

    def _get(self, result: Ref) -> Result:
        with uninterrupted():
            return self.ray.get(result)

    def _show(self) -> None:
        """Passes on the lines that rank 0 has reported."""
        try:
            with uninterrupted():
                lines = self.actors[0].take.remote(self.lines_shown)
                lines = self.ray.get(lines, timeout=POLL_SECONDS)
        except self.ray.exceptions.RayError:
            return  # busy, or dead: `finish` will find out
        self.lines_shown += len(lines)
        for line in lines:
            self.on_line(line)

    def _blamed(self, rank: int, error: Exception) -> Exception:
        """The cause among the errors of all ranks: a death, or else an error with a remedy.

        Ranks that wait for a dead one fail too, and their errors often arrive first.
        """
        task_error = self.ray.exceptions.RayTaskError
        errors = {rank: error}
        patience = time.monotonic() + BLAME_SECONDS
        while self.running and isinstance(error, task_error) and time.monotonic() < patience:
            if isinstance(cause := _cause(error), DepthtokError):
                return cause
            for result in self._ready(list(self.running), 1):
                failed_rank = self.running.pop(result)
                try:
                    self._get(result)
                except self.ray.exceptions.RayError as its_error:
                    errors[failed_rank] = error = its_error
        dead = [r for r, e in errors.items() if not isinstance(e, task_error)]
        if dead:
            return _died(self.names[dead[0]], errors[dead[0]])
        causes = (_cause(error) for error in errors.values())
        return next((cause for cause in causes if isinstance(cause, DepthtokError)), errors[rank])


def _died(name: str, error: Exception) -> WorkerDied:
    return WorkerDied(
        f"{name} died: {str(error).strip().splitlines()[0]}",
        remedy="run the same command again: it resumes from the last checkpoint; if it dies again, "
        "check its memory and Ray's logs on that machine",
    )


def _cause(error: Exception) -> object:
    """What was raised in the task, of Ray's error; None where the actor died."""
    return getattr(error, "cause", None)
