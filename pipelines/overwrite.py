"""convert --overwrite: a store made with other settings gives way to a new one, once that is whole.

The new store is made beside the old one, as `NAME.overwriting`: an ordinary store, which any number
of jobs may fill and a killed one resumes. When it is complete, the two change places and the old
one is dropped. Until then nothing of the old one is touched.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from depthtok.config import RunOptions
from depthtok.errors import DepthtokError, StaleStore, StoreError
from depthtok.files import exchange, remove
from depthtok.locks import writing
from depthtok.store import ROOT, Store, StoreSpec, drop_dead, is_store, is_unmade, read_spec
from depthtok.temporaries import TEMPORARY, sweep

if TYPE_CHECKING:
    from pipelines.convert import ConvertStage
    from pipelines.stage import Outcome

SHOWN = 12  # differences in a message
SUFFIX = ".overwriting"


def beside(out: Path) -> Path:
    """Where the store that is to replace `out` is made."""
    out = out.absolute()
    return out.with_name(out.name + SUFFIX)


def settle(out: Path) -> None:
    """Finishes a replacement that was interrupted between its two renames: the old store is away,
    and the new one, which is whole, is not yet in its place."""
    new = beside(out)
    if out.exists() or not (new / ROOT).is_file():
        return
    with writing(new, file=True):  # one of many jobs
        if not out.exists() and (new / ROOT).is_file() and not Store(new).missing():
            exchange(new, out)
            sweep(out.absolute().parent)  # the old store, under the name that it was put away with


def run_over(stage: ConvertStage, options: RunOptions) -> Outcome:
    """Runs a stage whose result replaces the store at its place, if that was made differently."""
    from pipelines.stage import run

    out, new = stage.out, beside(stage.out)
    settle(out)
    with writing(new, file=True):
        if (new / ROOT).is_file() and read_spec(new).fingerprint != stage.current.fingerprint:
            _drop(new)  # of settings before these, or the old store, killed right before this
    fresh = planned_over(stage)
    if fresh is stage:
        return run(stage, options)
    try:
        outcome = run(fresh, options)
    except (DepthtokError, OSError):
        if not _in_place(stage):
            raise
        return run(stage, options)  # another job found the new store complete, and moved it
    with writing(new, file=True):
        return _replaced(stage, new, outcome)


def _in_place(stage: ConvertStage) -> bool:
    """Whether the store that is there was made with the settings of now."""
    made = (stage.out / ROOT).is_file()
    return made and read_spec(stage.out).fingerprint == stage.current.fingerprint


def _replaced(stage: ConvertStage, new: Path, outcome: Outcome) -> Outcome:
    """Puts the new store in its place if it is whole; only one of many jobs does so."""
    if _in_place(stage):
        if new.exists():  # begun anew by this job, right after another had moved it
            _drop(new)
    elif reason := _unfit(new, outcome):
        outcome.notes.append(f"{stage.out} stays as it was{reason}")
        return outcome
    else:
        exchange(new, stage.out)
        remove(new)
    outcome.out = stage.out
    outcome.notes.append("the store that was there, made with other settings, is replaced")
    return outcome


def _unfit(new: Path, outcome: Outcome) -> str:
    """Why the new store does not take the old one's place yet; "" where it does, or has."""
    if outcome.given_up or (is_store(new) and Store(new).missing()):
        return f" until {new.name} is complete"
    if is_store(new) and not any(len(part.frames) for part in Store(new).parts()):
        return f": {new.name} has no episode"
    return ""


def planned_over(stage: ConvertStage) -> ConvertStage:
    """The stage that is run to replace the store at the place of `stage`: one beside it, or
    `stage` itself where that is made with its settings already, or not at all. Raises `StoreError`
    where something else is there."""
    if not (stage.out / ROOT).is_file():
        return stage
    if read_spec(stage.out).fingerprint == stage.current.fingerprint:
        return stage
    _require_episodes(stage.out)
    return replace(stage, out=beside(stage.out))


def _require_episodes(out: Path) -> None:
    found = read_spec(out)
    if (found.type, found.stage) != ("episodes", "convert"):
        raise StoreError(
            f"{out} holds {found.type} made by `depthtok {found.stage}`",
            remedy="choose another --out: --overwrite replaces what `convert` made",
        )


def _drop(new: Path) -> None:
    drop_dead(new)
    if sorted((new / "parts").glob(f"{TEMPORARY}*")):
        raise StoreError(
            f"a job with other settings is writing to {new}, or was killed there on another host",
            remedy="wait until it ends, or stop it; if there is none, delete that directory",
        )
    remove(new)


def require_same_store(
    out: Path, wanted: StoreSpec, versions: Sequence[StoreSpec], command: str
) -> None:
    """Raises `StaleStore` with all that differs, where `out` is an EpisodeStore that was converted
    with other settings. `versions` describe the wanted store as each version of the stage does;
    `command` makes it anew."""
    if not (out / ROOT).is_file() or is_unmade(out):
        return
    found = read_spec(out)
    if found.fingerprint == wanted.fingerprint or (found.type, found.stage) != (
        wanted.type, wanted.stage
    ):  # fmt: skip
        return
    alike = next((s for s in versions if s.stage_version == found.stage_version), wanted)
    lines = list(differences(found, alike)) or ["another version of `depthtok convert` made it"]
    if len(lines) > SHOWN:
        lines = [*lines[:SHOWN], f"and {len(lines) - SHOWN} more"]
    raise StaleStore(
        f"{out} was converted differently (there -> now):\n  " + "\n  ".join(lines),
        remedy=f"`{command}` makes it anew (what is there stays until the new store is whole); or "
        "give the same settings again, or another --out",
    )


def differences(there: StoreSpec, now: StoreSpec) -> Iterator[str]:
    """What differs between the settings of two EpisodeStores, one line each."""
    before, after = dict(there.what), dict(now.what)
    yield from _changes("", before.pop("schema", {}), after.pop("schema", {}))
    yield from _changes("", before, after)
    named = [[spec.about[key] for key in ("dataset", "version")] for spec in (there, now)]
    if named[0] != named[1]:
        yield f"data set: {' '.join(named[0])} -> {' '.join(named[1])}"
    yield from _changes("shards of split ", there.shards, now.shards)
    if there.upstream != now.upstream:
        counted = " or the numbers of episodes" if there.stage_version == 1 else ""
        yield f"the data set's features{counted} are other ones"


def _changes(where: str, before: object, after: object) -> Iterator[str]:
    """`camera wrist: depth_unit: "mm" -> "m"` of every leaf that differs."""
    if before == after:
        return
    before, after = _named(before), _named(after)
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in [*before, *(key for key in after if key not in before)]:
            inner = f"{where}: {key}" if where and not where.endswith(" ") else f"{where}{key}"
            yield from _changes(inner, before.get(key), after.get(key))
    else:
        yield f"{where}: {_short(before)} -> {_short(after)}"


def _named(value: object) -> object:
    """A list of tables as one table: by their names where they have such, else by number."""
    if isinstance(value, Sequence) and value and all(isinstance(item, Mapping) for item in value):
        return {str(item.get("name", number)): item for number, item in enumerate(value, 1)}
    return value


def _short(value: object) -> str:
    if value is None:
        return "nothing"
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
