"""Stages on Ray: one actor per worker, each of which makes whole parts.

Frames never go through Ray's object store: an actor reads its own shards and writes its own parts.
The files are the checkpoint, so a worker may die at any time; its part goes to another one.
"""

from __future__ import annotations

import os
import platform
import signal
import time
from collections import Counter, deque
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from depthtok.config import RunOptions
from depthtok.errors import ConfigError, DepthtokError, OutputError
from depthtok.progress import Bar, Extra
from depthtok.signals import Stopped, kept_handlers, uninterrupted
from depthtok.stores import filling
from depthtok.stores.parts import PartName
from pipelines.device import choose
from pipelines.ray.cluster import (
    Actor,
    Ref,
    address_of,
    cluster,
    could_not_start,
    never_started,
)
from pipelines.ray.health import Health, Room, attended
from pipelines.stage import Stage, Tally, Worker, WorkPart, device_of, make_part

ATTEMPTS = 3  # worker deaths before a part is given up
POLL_SECONDS = 1.0
STOP_SECONDS = 2.0  # for workers to abandon their parts by themselves
DEATH_SECONDS = 5.0  # for killed workers to be gone


class _Worker:
    """Runs in an actor: the model is loaded once, then parts are made one by one.

    The stage comes pickled: it opens its source as it is loaded, by paths that may be relative to
    `folder`, where the command was given.
    """

    def __init__(self, pickled: bytes, device: str, folder: Path) -> None:
        self._pickled, self._device, self._folder = pickled, device, folder
        self._units_made = 0
        self._stopped = False
        self._extra: dict[str, Extra] = {}
        self._loaded: tuple[Stage, Worker] | None = None

    def make(self, work: WorkPart) -> float:
        """Makes one part; returns the seconds it took. A stopped worker leaves no part.

        All is loaded here rather than in `__init__`, where an error would look like a crash.
        """
        if self._loaded is None:
            from ray import cloudpickle

            _enter(self._folder)
            stage: Stage = cloudpickle.loads(self._pickled)
            self._loaded = stage, stage.build(choose(self._device))
        started = time.monotonic()
        with suppress(Stopped):  # the driver is stopping too, and ignores the result
            make_part(*self._loaded, work, self._advance)
        return time.monotonic() - started

    def stop(self) -> None:
        """Makes `make` stop within a few more frames."""
        self._stopped = True

    def advanced(self) -> tuple[int, dict[str, Extra]]:
        """Frames or episodes done since the actor started, and other values to show; can be called
        while `make` runs."""
        return self._units_made, self._extra

    def _advance(self, count: int, **extra: Extra) -> None:
        self._units_made += count
        self._extra = extra
        if self._stopped:
            raise Stopped(signal.SIGTERM)


def _enter(folder: Path) -> None:
    """Makes `folder`, where the command was given, the current one: relative paths start there."""
    try:
        os.chdir(folder)
    except OSError as error:
        raise ConfigError(
            f"a worker on {platform.node()} cannot enter {folder}, where the command was given: "
            f"{error.strerror}",
            remedy="give the command in a directory that all machines of the cluster share",
        ) from None


def run_on_ray(
    stage: Stage, todo: list[WorkPart], options: RunOptions, bar: Bar, tally: Tally
) -> None:
    """Makes parts on `options.workers` actors, on a local Ray or the given cluster.

    A part whose worker dies is tried `ATTEMPTS` times and then given up: recorded, not fatal.
    Re-raises a worker's `DepthtokError`.
    """
    workers = min(options.workers, len(todo))
    address = address_of(options.ray_address)
    with (
        cluster(workers * options.cpus_per_worker, address) as ray,
        attended(ray, address) as health,
    ):
        pool = _Pool(ray, stage, options, bar, tally, deque(todo), health)
        try:
            with kept_handlers():
                pool.run(workers)
        finally:
            if not health.error:
                pool.stop()


@dataclass
class _Pool:
    """The queue of parts and the actors that process it."""

    ray: ModuleType
    stage: Stage
    options: RunOptions
    bar: Bar
    tally: Tally
    queue: deque[WorkPart]
    health: Health
    running: dict[Ref, tuple[Actor, WorkPart]] = field(default_factory=dict)
    deaths: Counter[PartName] = field(default_factory=Counter)
    shown: dict[Actor, int] = field(default_factory=dict)  # progress already shown
    shown_before: dict[Actor, int] = field(default_factory=dict)  # the same, as its part began
    extras: dict[Actor, dict[str, Extra]] = field(default_factory=dict)  # other values last shown
    asked: dict[Ref, Actor] = field(default_factory=dict)  # for their progress: one time each

    def run(self, workers: int) -> None:
        room = self._room()
        for _ in range(workers):
            self._start()
        while self.running:
            with uninterrupted():  # an exception inside Ray's own code would be replaced
                self.ray.wait(list(self.running), timeout=POLL_SECONDS)
                finished = self._there(self.running)
            self.health.require()
            with uninterrupted():
                room.require()
            for result in finished:
                with uninterrupted():
                    self._take(result)
            self._show()

    def stop(self) -> None:
        """Stops all workers; their unfinished parts leave nothing behind.

        Workers that do not stop within `STOP_SECONDS` are killed, and cleaned up if local.
        """
        with uninterrupted():
            for actor, _ in self.running.values():
                actor.stop.remote()
            if self.running:
                waiting = list(self.running)
                self.ray.wait(waiting, num_returns=len(waiting), timeout=STOP_SECONDS)
            for actor in self.shown:
                self.ray.kill(actor)
        unfinished = [str(work.name) for _, work in self.running.values()]
        patience = time.monotonic() + DEATH_SECONDS
        while filling.being_written(self.stage.out, unfinished) and time.monotonic() < patience:
            filling.drop_dead(self.stage.out)
            time.sleep(0.05)

    @property
    def _gpus(self) -> float:
        """Of each worker."""
        if self.options.gpus_per_worker is not None:
            return self.options.gpus_per_worker
        has_gpus = bool(self.ray.cluster_resources().get("GPU"))
        return int(has_gpus and device_of(self.stage) != "cpu")

    def _room(self) -> Room:
        """Whether one machine at least has what a worker needs."""
        needs = {"CPU": self.options.cpus_per_worker, "GPU": self._gpus}

        def enough() -> bool:
            nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
            return any(all(node.get(k, 0) >= n for k, n in needs.items()) for node in nodes)

        return Room(enough, "a worker (" + ", ".join(f"{n:g} {k}" for k, n in needs.items()) + ")")

    def _start(self) -> None:
        """Starts an actor on the next part."""
        worker = self.ray.remote(_Worker).options(
            num_cpus=self.options.cpus_per_worker,
            num_gpus=self._gpus,
            max_concurrency=2,  # so that `advanced` can be called while `make` runs
        )
        pickled = self.ray.cloudpickle.dumps(self.stage)
        actor: Actor = worker.remote(pickled, device_of(self.stage), Path.cwd())
        self.shown[actor] = 0
        self._give(actor)

    def _give(self, actor: Actor) -> None:
        """Gives an actor the next part. Without one it is ended: another may wait for its room, as
        the cluster has lost a machine, or never had room for all."""
        if not self.queue:
            self._dismiss(actor)
            return
        work = self.queue.popleft()
        self.shown_before[actor] = self.shown[actor]
        self.running[actor.make.remote(work)] = (actor, work)

    def _dismiss(self, actor: Actor) -> None:
        """Ends an actor, if it lives; the values that it reported no longer count."""
        self.ray.kill(actor)
        self.shown.pop(actor)
        self.shown_before.pop(actor, None)
        self.extras.pop(actor, None)

    def _take(self, result: Ref) -> None:
        """Notes the part that an actor has finished, or handles its error."""
        actor, work = self.running.pop(result)
        try:
            seconds = self.ray.get(result)
        except self.ray.exceptions.RayTaskError as error:
            cause = error.cause
            raise cause if isinstance(cause, DepthtokError) else error from None
        except self.ray.exceptions.RayError as error:
            self._bury(actor, work, error)
            return
        if not (self.stage.out / "parts" / str(work.name)).is_dir():
            raise OutputError(
                f"a worker made {work.name}, but it is not in {self.stage.out}",
                remedy="give an --out on a disk that all machines of the cluster share",
            )
        self.tally.add(work, seconds)
        self._show_one(actor, actor.advanced.remote())
        self._give(actor)

    def _bury(self, actor: Actor, work: WorkPart, error: Exception) -> None:
        """Handles a dead or unreachable actor: its part is queued again, unless it has killed too
        many workers. Raises `WorkerDied` if the actor could not even start."""
        self.bar.advance(self.shown_before[actor] - self.shown[actor])  # its part is lost
        self._dismiss(actor)
        if never_started(error):
            raise could_not_start("a worker", error)
        self.deaths[work.name] += 1
        if self.deaths[work.name] >= ATTEMPTS:
            reason = f"{ATTEMPTS} workers died making it: {self._reason(error)}"
            self.tally.given_up[str(work.name)] = reason
        else:
            self.queue.append(work)
        if self.queue:
            self._start()

    def _reason(self, error: Exception) -> str:
        """Ray's first line says what happened, its last one why."""
        if isinstance(error, self.ray.exceptions.OutOfMemoryError):
            return "its machine ran out of memory; give fewer --workers, or more --cpus-per-worker"
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return " ".join(dict.fromkeys([lines[0], lines[-1]])) if lines else type(error).__name__

    def _show(self) -> None:
        """Shows the progress of the actors that have told theirs, and asks those that are not asked
        already. One that has no room yet, loads its model or is dead is not waited for."""
        with uninterrupted():
            for answer in self._there(self.asked):
                self._show_one(self.asked.pop(answer), answer)
            asked = {*self.asked.values()}
            for actor, _ in self.running.values():
                if actor not in asked:
                    self.asked[actor.advanced.remote()] = actor

    def _there(self, results: Mapping[Ref, object]) -> list[Ref]:
        """All of these results that are there already."""
        if not results:
            return []
        return self.ray.wait(list(results), num_returns=len(results), timeout=0)[0]

    def _show_one(self, actor: Actor, answer: Ref) -> None:
        try:
            units, extra = self.ray.get(answer, timeout=POLL_SECONDS)
        except self.ray.exceptions.RayError:
            return  # dead: `run` will find out
        if actor in self.shown and units >= self.shown[actor]:  # an earlier answer may come late
            self.extras[actor] = extra
            self.bar.advance(units - self.shown[actor], **mean(self.extras.values()))
            self.shown[actor] = units


def mean(extras: Collection[dict[str, Extra]]) -> dict[str, Extra]:
    """The values of all workers combined: numbers are averaged, for text the last one is used."""
    combined: dict[str, Extra] = {}
    for name in dict.fromkeys(name for extra in extras for name in extra):
        values = [extra[name] for extra in extras if name in extra]
        numbers = [value for value in values if not isinstance(value, str)]
        is_text = len(numbers) < len(values)
        combined[name] = values[-1] if is_text else sum(numbers) / len(numbers)
    return combined
