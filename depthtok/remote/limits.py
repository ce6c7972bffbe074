"""How patient and how greedy reading over a network is; each limit is an environment variable."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from depthtok.config import from_mapping
from depthtok.errors import ConfigError
from depthtok.required import fulfilled

PREFIX = "DEPTHTOK_REMOTE_"


@dataclass(frozen=True)
class Limits:
    """`DEPTHTOK_REMOTE_<FIELD>` sets a field; sizes are in MiB, times in seconds. Raises
    `ConfigError` for what is not above 0."""

    attempts: int = 6  # of one request, before it is an error
    first_wait_s: float = 0.25  # before the second attempt; doubled for each one after it
    longest_wait_s: float = 20.0
    silence_s: float = 30.0  # without a byte, after which an attempt is given up
    connect_s: float = 10.0
    stream_mib: float = 8.0  # of a shard that is read from its beginning: bytes of one request
    in_flight: int = 4  # such requests at a time, so in_flight + 1 of them are in memory
    block_mib: float = 1.0  # of a shard whose frames are read in any order
    block_readers: int = 32  # requests of blocks at a time
    cache_gib: float = 50.0  # of local disk, for blocks
    cache: str = ""  # where it lies; ~/.cache/depthtok without it

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            good = field.name == "cache" or value > 0
            fulfilled(good, f"{PREFIX}{field.name.upper()} is {value}", "give a number above 0")

    @classmethod
    def from_environment(cls, variables: Mapping[str, str] = os.environ) -> Limits:
        """The limits that are set, and the defaults of the others. Raises `ConfigError`."""
        values: dict[str, int | float | str] = {}
        defaults = cls()
        for field in fields(cls):
            name = PREFIX + field.name.upper()
            if text := variables.get(name, ""):
                try:
                    values[field.name] = type(getattr(defaults, field.name))(text)
                except ValueError as error:
                    raise ConfigError(f"{name} is {text!r}", remedy="give a number") from error
        return from_mapping(cls, values, "the environment")

    @property
    def stream_bytes(self) -> int:
        """Bytes of one request of a stream."""
        return max(1, int(self.stream_mib * 2**20))

    @property
    def block_bytes(self) -> int:
        """Bytes of one block of the cache."""
        return max(1, int(self.block_mib * 2**20))

    @property
    def cache_bytes(self) -> int:
        """Bytes that blocks may take on the local disk."""
        return int(self.cache_gib * 2**30)

    @property
    def cache_folder(self) -> Path:
        """Where blocks and copies of stores are kept."""
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(self.cache) if self.cache else Path(home) / "depthtok"
