"""Makes a store's directory, and the parts in it.

Any number of processes may fill one store: each writes parts of its own, renamed into place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from depthtok.disk.files import (
    commit_directory,
    make_directory,
    output_errors,
    remove,
    write_atomic,
    write_new,
)
from depthtok.disk.temporaries import TEMPORARY, has_temporary, sweep, sweep_all
from depthtok.errors import OutputError
from depthtok.stores.arrays import ArraySpecs, group_json
from depthtok.stores.part_writer import PartWriter
from depthtok.stores.parts import PartName, ShardKey
from depthtok.stores.spec import (
    ROOT,
    StoreSpec,
    is_store,
    names_dimensions,
    read_spec,
    require_same,
    with_dimensions,
    without_dimensions,
)


def create(path: Path, spec: StoreSpec) -> None:
    """Makes the store's directory, or checks that the one there was made with the same settings.
    Raises `OutputError` for a directory of other things."""
    path, text = Path(path), group_json(spec.attributes())
    require_fitting(path, spec)
    with output_errors(path):
        make_directory(path / "parts")
    if not write_new(path / ROOT, text):
        present = read_spec(path)
        if not is_unmade(path):  # by another process, since
            require_same(path, present, spec)
        if (present.place, present.fingerprint) != (spec.place, spec.fingerprint):
            write_atomic(path / ROOT, text)
    if not parts_root_is_sound(path):
        write_atomic(path / "parts" / ROOT, group_json({}))


def require_fitting(path: Path, spec: StoreSpec) -> None:
    """Raises `StaleStore` where `path` holds parts that were made with other settings,
    `OutputError` for a directory of other things. Makes nothing."""
    with output_errors(path):
        is_empty = _names(path) <= {"parts"} and not _names(path / "parts")  # new, or just begun
    if not is_empty and not is_store(path):
        raise OutputError(
            f"{path} is not empty and not a depthtok store", remedy="choose another --out"
        )
    if (path / ROOT).is_file() and not is_unmade(path):
        require_same(path, read_spec(path), spec)


def standing(path: Path, spec: StoreSpec, earlier: Iterable[StoreSpec]) -> StoreSpec:
    """The description to continue with at `path`: one of the `earlier` ones, which former versions
    of the stage gave the same store, or `spec` itself without names of dimensions, if that is what
    lies there; else `spec`, whose arrays name their dimensions. Parts are kept and completed; what
    the earlier description does not know stays unknown."""
    if (Path(path) / ROOT).is_file():
        present = read_spec(Path(path))
        if present.fingerprint in {s.fingerprint for s in (without_dimensions(spec), *earlier)}:
            return replace(present, place=spec.place)
    return with_dimensions(spec)


def is_unmade(path: Path) -> bool:
    """Whether the store at `path` has no part, nor one that is being written: it may be changed."""
    return not _entries(path / "parts") - {ROOT}


def _names(path: Path) -> set[str]:
    """What lies in a directory, other than temporaries."""
    return {name for name in _entries(path) if not name.startswith(TEMPORARY)}


def _entries(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()} if path.exists() else set()


def parts_root_is_sound(path: Path) -> bool:
    """Whether the Zarr group of the parts is as `create` writes it."""
    root = path / "parts" / ROOT
    return root.is_file() and root.read_bytes() == group_json({}).encode()


def write_part(
    path: Path,
    spec: StoreSpec,
    name: PartName,
    shard: ShardKey,
    arrays: ArraySpecs,
    fill: Callable[[PartWriter], None],
    *,
    upstream: str,
    replace: bool = False,
) -> None:
    """Makes one part: `fill` is given the writer; the part appears when it returns."""
    final = Path(path) / "parts" / str(name)
    with commit_directory(final, replace=replace) as directory:
        if not names_dimensions(spec):
            arrays = {array: described.nameless() for array, described in arrays.items()}
        writer = PartWriter(directory, name, shard, spec.stage, arrays)
        fill(writer)
        writer.close(spec.fingerprint, upstream)


def drop_part(path: Path, name: str) -> None:
    """Removes a part; the next run makes it again."""
    remove(Path(path) / "parts" / name)


def drop_dead(path: Path) -> int:
    """Removes what writers of this host that are dead left behind."""
    return sweep(Path(path) / "parts") + sweep(Path(path))


def being_written(path: Path, names: Iterable[str]) -> bool:
    """Whether somebody writes one of these parts, or has left it unfinished."""
    return any(has_temporary(Path(path) / "parts" / name) for name in names)


def drop_temporaries(path: Path) -> int:
    """Removes what interrupted writers left behind; only when no job writes there."""
    return sweep_all(Path(path) / "parts") + sweep_all(Path(path))
