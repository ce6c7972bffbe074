"""convert --overwrite: a store made with other settings gives way to a new one, once that is whole.

The new store is made beside the old one, as `NAME.overwriting`: an ordinary store, which any number
of jobs may fill and a killed one resumes. When it is complete, the two change places and the old
one is dropped. Until then nothing of the old one is touched.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from depthtok.config import RunOptions
from depthtok.disk.files import exchange, remove
from depthtok.disk.locks import writing
from depthtok.disk.temporaries import TEMPORARY, sweep
from depthtok.errors import DepthtokError, StoreError
from depthtok.stores.filling import drop_dead
from depthtok.stores.spec import ROOT, is_store, read_spec, with_dimensions, without_dimensions
from depthtok.stores.store import Store
from pipelines.convert.opening import Converting
from pipelines.run import run
from pipelines.stage import Outcome

SUFFIX = ".overwriting"


def beside(out: Path) -> Path:
    """Where the store that is to replace `out` is made."""
    out = out.absolute()
    return out.with_name(out.name + SUFFIX)


def settle(out: Path) -> None:
    """Finishes a replacement that was interrupted between its two renames: the old store is away,
    and the new one, which is whole, is not yet in its place."""
    replacement = beside(out)
    if out.exists() or not (replacement / ROOT).is_file():
        return
    with writing(replacement, file=True):  # one of many jobs
        complete = (replacement / ROOT).is_file() and not Store(replacement).missing()
        if not out.exists() and complete:
            exchange(replacement, out)
            sweep(out.absolute().parent)  # the old store, under the name that it was put away with


def run_over(stage: Converting, options: RunOptions) -> Outcome:
    """Runs a stage whose result replaces the store at its place, if that was made differently."""
    replacement = beside(stage.out)
    settle(stage.out)
    with writing(replacement, file=True):
        if _made_otherwise(replacement, stage):
            _drop(replacement)  # of earlier settings, or the old store, killed right before this
    replacing = planned_over(stage)
    if replacing is stage:
        return run(stage, options)
    try:
        outcome = run(replacing, options)
    except (DepthtokError, OSError):
        if not _in_place(stage):
            raise
        return run(stage, options)  # another job found the new store complete, and moved it
    with writing(replacement, file=True):
        return _replaced(stage, replacement, outcome)


def _in_place(stage: Converting) -> bool:
    """Whether the store at the place of `stage` was made with its settings."""
    return (stage.out / ROOT).is_file() and not _made_otherwise(stage.out, stage)


def _made_otherwise(store: Path, stage: Converting) -> bool:
    """Whether there is a store that was made with other settings than those of `stage`."""
    same = with_dimensions(stage.current), without_dimensions(stage.current)
    fingerprints = {spec.fingerprint for spec in same}
    return (store / ROOT).is_file() and read_spec(store).fingerprint not in fingerprints


def _replaced(stage: Converting, replacement: Path, outcome: Outcome) -> Outcome:
    """Puts the new store in its place if it is complete; only one of many jobs does so."""
    if _in_place(stage):
        if replacement.exists():  # begun anew by this job, right after another had moved it
            _drop(replacement)
    elif reason := _unfit(replacement, outcome):
        return replace(outcome, notes=[*outcome.notes, f"{stage.out} stays as it was{reason}"])
    else:
        exchange(replacement, stage.out)
        remove(replacement)
    note = "the store that was there, made with other settings, is replaced"
    return replace(outcome, out=stage.out, notes=[*outcome.notes, note])


def _unfit(replacement: Path, outcome: Outcome) -> str:
    """Why the new store does not take the old one's place yet; "" where it does, or has."""
    store = Store(replacement) if is_store(replacement) else None
    if outcome.given_up or (store and store.missing()):
        return f" until {replacement.name} is complete"
    if store and not any(len(part.frames) for part in store.parts()):
        return f": {replacement.name} has no episode"
    return ""


def planned_over(stage: Converting) -> Converting:
    """The stage that is run to replace the store at the place of `stage`: one beside it, with the
    same schema, or `stage` itself where that is made with its settings already, or not at all.
    Raises `StoreError` where something else is there."""
    if not _made_otherwise(stage.out, stage):
        return stage
    _require_episodes(stage.out)
    return replace(stage, out=beside(stage.out), schema_of=stage.out)


def _require_episodes(out: Path) -> None:
    spec = read_spec(out)
    if (spec.type, spec.stage) != ("episodes", "convert"):
        raise StoreError(
            f"{out} holds {spec.type} made by `depthtok {spec.stage}`",
            remedy="choose another --out: --overwrite replaces what `convert` made",
        )


def _drop(store: Path) -> None:
    """Deletes a store. Raises `StoreError` while a job writes to it."""
    drop_dead(store)
    if sorted((store / "parts").glob(f"{TEMPORARY}*")):
        raise StoreError(
            f"a job with other settings is writing to {store}, or was killed there on another host",
            remedy="wait until it ends, or stop it; if there is none, delete that directory",
        )
    remove(store)
