"""Stores elsewhere as directories of this machine: fetched once, and mapped from there.

    CACHE/stores/<digest of the URL>/

The copy is brought up to date whenever the store is opened, by one process after the other; it
takes its whole size, and stays until somebody deletes it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from filelock import FileLock

from depthtok.copies.copying import copy_store, required
from depthtok.disk.files import make_directory, remove
from depthtok.disk.temporaries import sweep
from depthtok.errors import StoreError
from depthtok.format import human_bytes
from depthtok.remote.location import Location, located
from depthtok.stores.spec import ROOT, StoreSpec, is_store, read_spec


def local_copy(url: Location) -> Path:
    """The directory with a copy of the store at a URL, made or brought up to date. Raises
    `StoreError` where there is none, or it is larger than the cache may be."""
    contents, limits = required(url), url.limits
    folder = limits.cache_folder / "stores" / hashlib.sha256(str(url).encode()).hexdigest()[:32]
    if contents.size > limits.cache_bytes:
        raise StoreError(
            f"{url} has {human_bytes(contents.size)}, the cache may have "
            f"{human_bytes(limits.cache_bytes)}",
            remedy=f"`depthtok copy {url} DIR` and open that, or raise DEPTHTOK_REMOTE_CACHE_GIB",
        )
    make_directory(folder.parent)
    # One fetches it, and whoever opens it meanwhile waits: the ranks of a training begin at once.
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        sweep(folder.parent)
        stands = is_store(folder) and (folder / ROOT).is_file()
        if stands and read_spec(folder).fingerprint != contents.spec.fingerprint:
            remove(folder)  # another store lies at the URL now
        copy_store(url, folder)
    return folder


def spec_at(url: Path) -> StoreSpec:
    """What the store at a URL is, without fetching it. Raises `StoreError`."""
    location = located(url)
    assert isinstance(location, Location)
    return required(location).spec
