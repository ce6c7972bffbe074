"""What lies at a URL of the Hub, for commands that look at anything."""

from __future__ import annotations

from pathlib import Path

from depthtok.copies.local import local_copy
from depthtok.errors import ConfigError
from depthtok.remote.errors import Missing
from depthtok.remote.location import Location, located
from depthtok.remote.repository import MODEL, Repository
from depthtok.remote.snapshots import fetched
from depthtok.stores.spec import is_store


def at_hand(path: Path) -> Path:
    """The path itself; of `hf://OWNER/NAME` the folder of this machine where the codebook, the run
    or the store of that name lies, fetched if need be. Where the URL does not say which of both, a
    model is looked for first, then a data set. Raises `SourceUnavailable`, `CorruptPart`."""
    try:
        repository = Repository.parse(path)
    except ConfigError:  # a folder in a repository
        return path
    if repository is None:
        return path
    if repository.kind == MODEL:
        try:
            return fetched(repository)
        except Missing:
            if not is_store(located(path)):
                raise
    location = located(path)
    assert isinstance(location, Location)
    return local_copy(location) if is_store(location) else location
