"""The objects of one bucket, host or repository: what is asked of them, and by which package.

obstore speaks S3, Google Cloud Storage, Azure and https, with conditional and ranged requests and
without boto; `hf://` goes through huggingface_hub.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

from depthtok.errors import ConfigError, MissingPackage
from depthtok.remote.limits import Limits

BY_OBSTORE = ("s3", "gs", "az", "https", "http", "file")
SCHEMES = (*BY_OBSTORE, "hf")
_HOUSES = ("AWS_", "GOOGLE_", "AZURE_", "HF_")  # what variables of theirs begin with


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

    @property
    def revision(self) -> str: ...  # the commit of what is read; "" where there are none

    def describe(self, name: str) -> Described:
        """One object. Raises `Missing`."""
        ...

    def read(self, name: str, start: int, stop: int, etag: str) -> memoryview:
        """Exactly the bytes from `start` to `stop`, of the object with this etag ("": any)."""
        ...

    def folder(self, name: str) -> tuple[Sequence[str], Sequence[Described]]:
        """What is directly below a prefix: folders and objects, by their full names."""
        ...

    def write(self, name: str, data: bytes | Path) -> None:
        """Makes an object of `data`, or of a file's bytes, whole or not at all."""
        ...


def objects_of(scheme: str, bucket: str, limits: Limits) -> Objects:
    """The objects at `scheme://bucket`, by the credentials and endpoints of the environment. Raises
    `MissingPackage` and `ConfigError`."""
    variables = ((name, value) for name, value in os.environ.items() if name.startswith(_HOUSES))
    return _objects(scheme, bucket, limits, tuple(sorted(variables)))


@lru_cache(64)
def _objects(
    scheme: str, bucket: str, limits: Limits, variables: tuple[tuple[str, str], ...]
) -> Objects:
    """The same; `variables` of the environment tell those apart that are opened by others."""
    if scheme in BY_OBSTORE:
        require_package("obstore", "remote", f"{scheme}://")
        from depthtok.remote.by_obstore import ObstoreObjects

        return ObstoreObjects.open(scheme, bucket, limits)
    if scheme == "hf":
        require_package("huggingface_hub", "hf", "hf://")
        from depthtok.remote.by_hub import HubObjects

        return HubObjects.open(bucket)
    raise ConfigError(f"{scheme}:// is not known", remedy=f"known: {', '.join(SCHEMES)}")


def require_package(package: str, extra: str, what: str) -> None:
    """Raises `MissingPackage`, which names the extra, where a package is not installed."""
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise MissingPackage(
            f"{what} needs the package `{package}`", remedy=f"pip install 'depthtok[{extra}]'"
        ) from error
