"""The objects of one bucket, host or repository: what is asked of them, and by which package.

obstore speaks S3, Google Cloud Storage, Azure and https, with conditional and ranged requests and
without boto; `hf://` goes through huggingface_hub.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

from depthtok.errors import ConfigError, MissingPackage
from depthtok.remote.limits import Limits

BY_OBSTORE = ("s3", "gs", "az", "https", "http")
SCHEMES = (*BY_OBSTORE, "hf")


@dataclass(frozen=True)
class Described:
    """An object: its name in the bucket, bytes, etag, and when it was last written, in ns."""

    name: str
    size: int
    etag: str
    modified_ns: int


@runtime_checkable
class Objects(Protocol):
    """The objects below one bucket, host or repository. All names are relative to that.

    Every method is one attempt: raises `Trouble` for what may pass, `Missing`, `Refused`,
    `Changed`.
    """

    def describe(self, name: str) -> Described:
        """One object. Raises `Missing`."""
        ...

    def read(self, name: str, start: int, stop: int, etag: str) -> bytes:
        """Exactly the bytes from `start` to `stop`, of the object with this etag ("": any)."""
        ...

    def folder(self, name: str) -> tuple[Sequence[str], Sequence[Described]]:
        """What is directly below a prefix: folders and objects, by their full names."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Makes an object of `data`, whole or not at all."""
        ...


@lru_cache(64)
def objects_of(scheme: str, bucket: str, limits: Limits) -> Objects:
    """The objects at `scheme://bucket`. Raises `MissingPackage` and `ConfigError`."""
    if scheme in BY_OBSTORE:
        _require("obstore", "remote", f"{scheme}://")
        from depthtok.remote.by_obstore import ObstoreObjects

        return ObstoreObjects.open(scheme, bucket, limits)
    if scheme == "hf":
        _require("huggingface_hub", "hf", "hf://")
        from depthtok.remote.by_hub import HubObjects

        return HubObjects.open(bucket)
    raise ConfigError(f"{scheme}:// is not known", remedy=f"known: {', '.join(SCHEMES)}")


def _require(package: str, extra: str, what: str) -> None:
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise MissingPackage(
            f"{what} needs the package `{package}`", remedy=f"pip install 'depthtok[{extra}]'"
        ) from error
