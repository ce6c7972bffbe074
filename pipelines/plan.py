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
    seconds: float | None  # worker-seconds, over all workers; None if nothing could be measured
    bytes: float | None
    free_bytes: int
    fetches: Fetches | None = None
    gpu_rate: Rate | None = None  # of this job on a GPU, where the plan is not for one
    notes: tuple[str, ...] = ()  # what else was measured
    sharded: bool = False  # whether this is the plan of one job of several

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
        if (jobs := self.parts + self.parts_there) > 1 and not self.sharded:
            lines.append(f"  shared by {jobs} jobs at most (--shard 1/{jobs}): a part is one job's")
        if self.seconds is None or self.bytes is None:
            unknown = "  time and size are unknown: none of the episodes tried can be read"
            return [*lines, *(f"  {note}" for note in self.notes), unknown]
        busy = min(self.workers, self.parts)  # a part is made by one worker
        wall = f", {human_duration(self.seconds / busy)} on {busy}" if busy > 1 else ""
        lines += [
            f"  about {human_duration(self.seconds)} on one {self.device} worker{wall}",
            f"  about {human_bytes(self.bytes)} to write; {human_bytes(self.free_bytes)} are free",
        ]
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
        if self.bytes > self.free_bytes:
            lines.append("  not enough space: choose another --out, or a smaller --size")
        return lines


def plan(stage: Stage, options: RunOptions) -> Plan:
    """The plan of a stage; measures a few items if anything is left to do."""
    work = stage.work()
    requested = options.mine(first_episodes(work, options.limit))
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
        seconds=probe.seconds / probe.units * units if probe else None,
        bytes=probe.bytes / probe.units * units if probe else None,
        free_bytes=shutil.disk_usage(_existing(stage.out)).free,
        fetches=stage.fetches(todo) if isinstance(stage, Fetching) else None,
        gpu_rate=rate_of(stage) if device == "cpu" else None,
        notes=(*_unmade(absent), *(probe.notes if probe else ())),
        sharded=options.shard is not None,
    )


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
