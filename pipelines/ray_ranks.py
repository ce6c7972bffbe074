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
from typing import Any

from depthtok.errors import ConfigError, DepthtokError, WorkerDied
from depthtok.signals import Stopped, kept_handlers, uninterrupted
from pipelines.ray_cluster import address_of, cluster, require_answer
from pipelines.ray_health import Health, Room, attended

POLL_SECONDS = 0.5
BLAME_SECONDS = 5.0  # to wait after one rank's error for the rank that caused it

Line = Mapping[str, float]
Task = Callable[[Callable[[Line], None], Callable[[], bool]], Any]


class _Rank:
    """Runs in an actor. `where`, `take` and `stop` can be called while `run` runs."""

    def __init__(self) -> None:
        self._lines: list[Line] = []
        self._stopped = False

    def where(self) -> tuple[str, str, int]:
        """The address of this machine, a name for this process, and a free port."""
        import ray

        with socket.socket() as free:
            free.bind(("", 0))
            port = free.getsockname()[1]
        address = ray.util.get_node_ip_address()
        return address, f"process {os.getpid()} on {address}", port

    def run(self, task: Task, environment: Mapping[str, str], folder: Path) -> Any:
        os.environ.update(environment)
        if folder.is_dir():  # relative paths refer to where the command was given
            os.chdir(folder)
        return task(self._lines.append, lambda: self._stopped)

    def take(self, seen: int) -> list[Line]:
        """The lines that the task has reported after its first `seen` lines."""
        return self._lines[seen:]

    def stop(self) -> None:
        self._stopped = True


def run_on_ranks(
    task: Task,
    count: int,
    *,
    device: str,
    address: str | None,
    on_line: Callable[[Line], None],
    should_stop: Callable[[], bool],
) -> Any:
    """Runs `task(say, should_stop)` on `count` ranks; returns its result on rank 0.

    Each rank gets one GPU if the cluster has any and `device` is not `cpu`. Lines reported by rank
    0 are passed to `on_line`; `should_stop` is passed on to every rank. Raises `ConfigError` if the
    cluster is too small, `WorkerDied` naming a rank that died, or a rank's own error.
    """
    address = address_of(address)
    require_answer(address)
    with (
        cluster(count, address) as ray,
        attended(ray, address) as health,
        kept_handlers(),
    ):
        ranks = _Ranks(ray, task, on_line, should_stop, health)
        try:
            with uninterrupted():
                ranks.place(count, device)
            ranks.begin()
            return ranks.finish()
        finally:
            if not health.error:
                ranks.end()


@dataclass
class _Ranks:
    """The actors of a run by rank."""

    ray: Any
    task: Task
    on_line: Callable[[Line], None]
    should_stop: Callable[[], bool]
    health: Health
    group: Any = None
    room: Room | None = None
    actors: list[Any] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    running: dict[Any, int] = field(default_factory=dict)  # pending result of `run` -> rank
    seen: int = 0

    def place(self, count: int, device: str) -> None:
        """Reserves the resources of all ranks at once, close together."""
        from ray.util import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        total = self.ray.cluster_resources()
        needs = {"CPU": 1.0}
        if total.get("GPU") and device != "cpu":
            needs["GPU"] = 1.0
        self.room = Room(lambda: self._fits(needs, count), f"{count} ranks")
        for kind, each in needs.items():
            if total.get(kind, 0) < each * count:
                raise ConfigError(
                    f"{count} ranks need {each * count:g} {kind}s, the cluster has "
                    f"{total.get(kind, 0):g}",
                    remedy="give fewer --ranks, add machines, or name the cluster: --ray-address",
                )
        self.group = placement_group([dict(needs) for _ in range(count)], "PACK")
        for rank in range(count):
            place = PlacementGroupSchedulingStrategy(self.group, placement_group_bundle_index=rank)
            self.actors.append(
                self.ray.remote(_Rank)
                .options(
                    num_cpus=1, num_gpus=needs.get("GPU", 0), scheduling_strategy=place,
                    max_concurrency=2,
                )
                .remote()
            )  # fmt: skip

    def _fits(self, needs: Mapping[str, float], count: int) -> bool:
        total = self.ray.cluster_resources()
        return all(total.get(kind, 0) >= each * count for kind, each in needs.items())

    def begin(self) -> None:
        """Starts the task on all ranks, once their resources are available."""
        asked = [actor.where.remote() for actor in self.actors]
        while len(self._ready(asked, len(asked))) < len(asked):
            with uninterrupted():
                self.room.require()
            if self.should_stop():
                raise Stopped(15)
        with uninterrupted():
            found = self.ray.get(asked)
        master, _, port = found[0]
        self.names = [f"rank {rank} ({name})" for rank, (_, name, _) in enumerate(found)]
        addresses = [address for address, _, _ in found]
        for rank, actor in enumerate(self.actors):
            environment = {
                "MASTER_ADDR": master, "MASTER_PORT": str(port), "WORLD_SIZE": str(len(found)),
                "RANK": str(rank), "LOCAL_RANK": "0",  # an actor sees only its own GPU
                "LOCAL_WORLD_SIZE": str(addresses.count(addresses[rank])),
            }  # fmt: skip
            self.running[actor.run.remote(self.task, environment, Path.cwd())] = rank

    def finish(self) -> Any:
        """Waits for all ranks, passing on rank 0's lines, and the stop request to all."""
        results: dict[int, Any] = {}
        told = False
        while self.running:
            for done in self._ready(list(self.running), 1):
                rank = self.running.pop(done)
                try:
                    results[rank] = self._get(done)
                except self.ray.exceptions.RayError as error:
                    raise self._blamed(rank, error) from None
            self._show()
            if self.should_stop() and not told:
                told = True
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

    def _ready(self, wanted: list[Any], count: int) -> list[Any]:
        self.health.require()
        with uninterrupted():  # an exception inside Ray's own code would be replaced
            return self.ray.wait(wanted, num_returns=count, timeout=POLL_SECONDS)[0]

    def _get(self, done: Any) -> Any:
        with uninterrupted():
            return self.ray.get(done)

    def _show(self) -> None:
        """Passes on the lines that rank 0 has reported."""
        try:
            with uninterrupted():
                lines = self.ray.get(self.actors[0].take.remote(self.seen), timeout=POLL_SECONDS)
        except self.ray.exceptions.RayError:
            return  # busy, or dead: `finish` will find out
        self.seen += len(lines)
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
            if isinstance(error.cause, DepthtokError):
                return error.cause
            for done in self._ready(list(self.running), 1):
                other = self.running.pop(done)
                try:
                    self._get(done)
                except self.ray.exceptions.RayError as its:
                    errors[other] = error = its
        dead = [r for r, e in errors.items() if not isinstance(e, task_error)]
        if dead:
            return WorkerDied(
                f"{self.names[dead[0]]} died: {str(errors[dead[0]]).strip().splitlines()[0]}",
                remedy="run the same command again: it resumes from the last checkpoint; if it "
                "dies again, check its memory and Ray's logs on that machine",
            )
        causes = [e.cause for e in errors.values() if isinstance(e.cause, DepthtokError)]
        return causes[0] if causes else errors[rank]
