"""What a stage would do, how long it would take and how much it would write, before it starts.

Times and sizes are measured on a few items of the job itself, on the device that it would use, and
extrapolated. Episodes that the run would record as failed are skipped. Nothing is written. Where
that device is a CPU, the plan also says how long a GPU takes whose rate is known.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from depthtok.config import RunOptions
from depthtok.format import human_bytes, human_count, human_duration
from depthtok.stores.spec import ROOT
from pipelines.fetches import Fetches, Fetching
from pipelines.rates import Rate, rate_of
from pipelines.run import first_episodes, pending, watched
from pipelines.stage import Probe, Stage, device_of

PARTS = 8  # tried if the first cannot be measured


@dataclass(frozen=True)
class Plan:
    """The estimated cost of a job before it runs."""

    stage: str
    out: str
    parts: int
    parts_there: int
    episodes: int
    unit: str
    units: int
    device: str
    workers: int
    seconds: float | None  # worker-seconds, over all workers; None if they were not measured
    bytes: float | None  # None if nothing could be measured
    free_bytes: int
    fetches: Fetches | None = None
    gpu_rate: Rate | None = None  # of this job on a GPU, where the plan is not for one
    notes: tuple[str, ...] = ()  # what else was measured
    sharded: bool = False  # whether this is the plan of one job of several
    bytes_at_most: bool = False  # whether `bytes` are those before packing
    parts_of_all: int = 0  # in the plan of one job of several: the parts that they share
    parts_absent: int = 0  # that cannot be made now: their files are not there

    def lines(self) -> list[str]:
        """The plan as text."""
        counts = f"  {human_count(self.episodes)} {'episode' if self.episodes == 1 else 'episodes'}"
        if self.unit != "episodes":
            counts += f", {human_count(self.units)} {self.unit}"
        lines = [
            f"{self.stage} -> {self.out}: {self.parts} {'part' if self.parts == 1 else 'parts'} "
            f"to make, {self.parts_there} done",
            counts,
        ]
        lines += self._sharing()
        if self.bytes is None:
            unknown = "  time and size are unknown: none of the episodes tried can be read"
            return [*lines, *(f"  {note}" for note in self.notes), unknown]
        lines += self._time()
        about, unpacked = ("at most", ", unpacked") if self.bytes_at_most else ("about", "")
        lines.append(
            f"  {about} {human_bytes(self.bytes)} to write{unpacked}; "
            f"{human_bytes(self.free_bytes)} are free"
        )
        if self.fetches:
            lines += self.fetches.lines()
        if self.gpu_rate and self.units:
            rate, duration = self.gpu_rate, human_duration(self.units / self.gpu_rate.figure)
            lines += [
                f"  about {duration} on one {rate.card}: {rate.figure:,.0f} {rate.unit} "
                f"({rate.origin}, {rate.command})",
                "  of another GPU divide by its own rate: make bench-gpu",
            ]
        lines += [f"  {note}" for note in self.notes]
        if self.bytes > self.free_bytes and not self.bytes_at_most:
            lines.append("  not enough space: choose another --out, or a smaller --size")
        return lines

    def _time(self) -> Iterator[str]:
        """How long it takes, where that was measured."""
        if self.seconds is not None:
            busy = min(self.workers, self.parts)  # a part is made by one worker
            wall = f", {human_duration(self.seconds / busy)} on {busy}" if busy > 1 else ""
            yield f"  about {human_duration(self.seconds)} on one {self.device} worker{wall}"

    def _sharing(self) -> Iterator[str]:
        """How many jobs have something to do, where that is not plain."""
        share = self.parts + self.parts_there + self.parts_absent
        jobs = self.parts_of_all if self.sharded else share
        idle = self.sharded and not share
        if jobs == 1 and (self.parts or idle):
            yield "  one part: one job makes all of it; more would find nothing to do"
        elif jobs > 1 and idle:
            yield f"  {jobs} parts, shared by {jobs} jobs at most: none is left for this one"
        elif jobs > 1 and not self.sharded:
            yield f"  shared by {jobs} jobs at most (--shard 1/{jobs}): a part is one job's"


def plan(stage: Stage, options: RunOptions) -> Plan:
    """The plan of a stage; measures a few items if anything is left to do."""
    shared = first_episodes(stage.work(), options.limit)
    requested = options.mine(shared)
    watch = watched(stage, requested)
    absent = watch.absent if watch else {}
    todo = [part for part in requested if str(part.name) not in absent]
    if (stage.out / ROOT).is_file():
        todo = pending(stage, requested, options, watch)
    device = device_of(stage)
    units = sum(part.frames if stage.unit == "frames" else part.episodes for part in todo)
    candidates = [part for part in todo if part.episodes][:PARTS]
    probe = stage.probe(candidates) if candidates else Probe(1, 0.0, 0.0)
    return Plan(
        stage.spec.stage,
        str(stage.out),
        parts=len(todo),
        parts_there=len(requested) - len(todo) - len(absent),
        episodes=sum(part.episodes for part in todo),
        unit=stage.unit,
        units=units,
        device=device,
        workers=options.workers,
        seconds=_scaled(probe.seconds, probe.units, units) if probe else None,
        bytes=probe.bytes / probe.units * units if probe else None,
        free_bytes=shutil.disk_usage(_existing(stage.out)).free,
        fetches=stage.fetches(todo) if isinstance(stage, Fetching) else None,
        gpu_rate=rate_of(stage) if device == "cpu" or _is_unmeasured(probe) else None,
        notes=(*_unmade(absent), *(probe.notes if probe else ())),
        sharded=options.shard is not None,
        bytes_at_most=probe is not None and probe.at_most,
        parts_of_all=len(shared) if options.shard else 0,
        parts_absent=len(absent),
    )


def _scaled(seconds: float | None, tried: float, units: int) -> float | None:
    """The time of all units, from that of those that were tried."""
    return None if seconds is None else seconds / tried * units


def _is_unmeasured(probe: Probe | None) -> bool:
    return probe is not None and probe.seconds is None


def _unmade(absent: Mapping[str, str]) -> Iterator[str]:
    """What a plan says of parts whose files are not there, by part."""
    if absent:
        noun = "1 part" if len(absent) == 1 else f"{len(absent)} parts"
        yield f"{noun} cannot be made now (first: {next(iter(absent.values()))})"


def _existing(path: Path) -> Path:
    """The path itself, or the nearest directory above it that exists."""
    path = path.resolve()
    while not path.exists():
        path = path.parent
    return path
