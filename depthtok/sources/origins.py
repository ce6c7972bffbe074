"""Where a data set in files comes from: its name, and its revision on the Hub."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from depthtok.disk.files import slug
from depthtok.remote.location import Location

_COMMIT = re.compile(r"[0-9a-f]{40}")


def name_of(path: Path) -> str:
    """The name of the data set in a directory: that of its repository on the Hub
    (`OWNER--NAME`), or of the directory."""
    if isinstance(path, Location) and path.scheme == "hf" and not path.key:
        _, owner, name = path.bucket.split("/")
        return slug(f"{owner}--{name.partition('@')[0]}")
    snapshot = _snapshot(path)
    return slug(snapshot[0] if snapshot else path.resolve().name)


def revision_of(path: Path) -> Mapping[str, str]:
    """`revision`, the commit of a data set on the Hub or in the cache of its client; {} where it is
    not known."""
    if isinstance(path, Location):
        revision = path.bucket.partition("@")[2] if path.scheme == "hf" else ""
        return {"revision": revision} if _COMMIT.fullmatch(revision) else {}
    snapshot = _snapshot(path)
    return {"revision": snapshot[1]} if snapshot else {}


def _snapshot(path: Path) -> tuple[str, str] | None:
    """The repository and the revision of a directory in the cache of the Hub's client."""
    path = path.resolve()
    match = re.fullmatch(r"datasets--(.+)", path.parent.parent.name)
    return (match[1], path.name) if match and path.parent.name == "snapshots" else None
