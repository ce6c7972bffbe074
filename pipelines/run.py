"""Runs a stage: makes the missing parts of its store, in this process or on Ray workers."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

from depthtok.config import RunOptions
from depthtok.progress import Bar, progress
from depthtok.stores import filling, store
from depthtok.stores.parts import Part, PartName
from depthtok.stores.spec import ROOT
from depthtok.stores.store import Store
from pipelines.convert.changes import Watch
from pipelines.ray.cluster import address_of, require_answer
from pipelines.ray.pool import run_on_ray
from pipelines.stage import MakesDepth, Outcome, Stage, Tally, Watching, WorkPart, make_part


def run(stage: Stage, options: RunOptions) -> Outcome:
    """Makes the missing parts of `stage`, and returns the state of the store.

    Raises `DepthtokError` for problems not specific to an episode: settings, a full disk, a missing
    source.
    """
    started = time.monotonic()
    if options.workers:
        require_answer(address_of(options.ray_address))
    work = stage.work()
    filling.create(stage.out, stage.spec)
    filling.drop_dead(stage.out)
    drop_other_cuts(stage.out, work)
    requested = options.mine(first_episodes(work, options.limit))
    watch = watched(stage, requested)
    todo = pending(stage, requested, options, watch)
    tally = Tally(given_up=dict(watch.absent) if watch else {})
    notes = watch.lines() if watch else []
    unchanged = len(requested) - len(todo) - len(tally.given_up)
    count = {"frames": sum(p.frames for p in todo), "episodes": sum(p.episodes for p in todo)}
    with progress(total=count[stage.unit], unit=stage.unit, label=stage.spec.stage) as bar:
        if options.workers and todo:
            try:
                run_on_ray(stage, todo, options, bar, tally)
            finally:
                filling.drop_dead(stage.out)  # left behind by dead workers
        else:
            run_here(stage, todo, options, bar, tally)
    if watch:
        names = (str(part.name) for part in todo)
        watch.remember([name for name in names if name not in tally.given_up])
    outcome = replace(
        _contents(stage, requested),
        kept=unchanged,
        left=len(_missing(stage.out, work) - {str(part.name) for part in requested}),
        remade=sum(part.replaces for part in todo),
        notes=notes,
        seconds=time.monotonic() - started,
        **vars(tally),
    )
    if not tally.given_up and not Store(stage.out).missing():
        stage.finish()
    return outcome


def _missing(out: Path, work: list[WorkPart]) -> set[str]:
    return {str(part.name) for part in work}.difference(store.present_parts(out))


def first_episodes(work: list[WorkPart], limit: int | None) -> list[WorkPart]:
    """The parts with the first `limit` episodes. Parts are whole, so there may be a few more."""
    if limit is None:
        return work
    chosen, episodes = [], 0
    for part in work:
        if episodes >= limit:
            break
        chosen.append(part)
        episodes += part.episodes
    return chosen


def drop_other_cuts(out: Path, work: list[WorkPart]) -> None:
    """Drops parts of shards that are now cut differently, because their source was remade."""
    names, shards = {str(part.name) for part in work}, {part.name.shard for part in work}
    for name in store.present_parts(out):
        if name not in names and PartName.of(name).shard in shards:
            filling.drop_part(out, name)


def watched(stage: Stage, requested: list[WorkPart]) -> Watch | None:
    """What became of the sources of the requested parts; None where the source is a store."""
    if not isinstance(stage, Watching):
        return None
    watch, names = stage.watch(), [str(work.name) for work in requested]
    present: dict[str, Part] = {}
    if (stage.out / ROOT).is_file():  # or it is planned
        existing = Store(stage.out)
        names_present = sorted({*names} & {*existing.part_names})
        present = {name: existing.part(name) for name in names_present}
    watch.look(names, present)
    return watch


def pending(
    stage: Stage, requested: list[WorkPart], options: RunOptions, watch: Watch | None = None
) -> list[WorkPart]:
    """The parts still to be made; those that replace an existing part are marked."""
    existing = Store(stage.out)
    present = set(existing.part_names)
    todo = []
    for work in requested:
        name = str(work.name)
        exists, changed = name in present, watch is not None and name in watch.changed
        reusable = exists and options.resume and not changed
        if reusable and not _outdated(existing.part(name), work, options):
            continue
        if watch is None or name not in watch.absent:
            todo.append(replace(work, replaces=exists))
    return todo


def _outdated(part: Part, work: WorkPart, options: RunOptions) -> bool:
    """Whether an existing part is of other input, or has failures that are to be retried."""
    if part.upstream != work.upstream:
        return not work.same_source(part)
    failed_here = (failure.stage == part.manifest["stage"] for failure in part.failures)
    return options.retry_failed and any(failed_here)


def run_here(
    stage: Stage, todo: list[WorkPart], options: RunOptions, bar: Bar, tally: Tally
) -> None:
    """Makes parts in this process, one after another."""
    if not todo:
        return
    worker = stage.build(options.device)
    for work in todo:
        started = time.monotonic()
        make_part(stage, worker, work, bar.advance)
        tally.add(work, time.monotonic() - started)


def _contents(stage: Stage, requested: list[WorkPart]) -> Outcome:
    """What the manifests of the requested parts add up to."""
    existing = Store(stage.out)
    names, present = [str(work.name) for work in requested], {*existing.part_names}
    parts = [existing.part(name) for name in names if name in present]
    failures = [failure for part in parts for failure in part.failures]
    earlier = Counter(f.stage for f in failures if f.stage != stage.spec.stage)
    absent, left_out = Counter[str](), Counter[str]()
    for part in parts:
        absent.update({camera: len(indices) for camera, indices in part.absent.items()})
        reasons = part.meta.get("left_out", {})
        left_out.update({reason: len(indices) for reason, indices in reasons.items()})
    medians, unlikely = stage.median_depth(parts) if isinstance(stage, MakesDepth) else ({}, [])
    return Outcome(
        stage.out,
        episodes=sum(len(part.frames) for part in parts),
        steps=sum(int(part.frames.sum()) for part in parts),
        bytes=sum(size for part in parts for size, _ in part.manifest["files"].values()),
        failures=[failure for failure in failures if failure.stage == stage.spec.stage],
        inherited=earlier.total(),
        earlier=dict(earlier),
        absent=dict(absent),
        left_out=dict(left_out),
        flags_against_pictures=_by_camera(parts, "flags_against_pictures"),
        not_measured=_by_camera(parts, "not_measured"),
        median_depth_m=medians,
        unlikely_depth=unlikely,
        unstated=sum("length" in part.meta for part in parts),
    )


def _by_camera(parts: list[Part], field: str) -> dict[str, dict[str, int]]:
    """Counts that parts record by camera, added up."""
    totals: dict[str, Counter[str]] = {}
    for part in parts:
        for camera, counts in part.meta.get(field, {}).items():
            totals.setdefault(camera, Counter()).update(counts)
    return {camera: dict(total) for camera, total in totals.items()}
