"""Whether this process is one of several that torchrun, or what does as it does, has started."""

from __future__ import annotations

import os

from depthtok.errors import ConfigError

NAMES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def world_size() -> int:
    """How many processes were started together, this one among them; 0 where it was started alone.

    Job scripts and clusters export some of the names for everything that they run, so only all of
    them count. Raises `ConfigError` where several processes are announced, but not which this is.
    """
    count = int(os.environ.get("WORLD_SIZE") or 1)
    missing = [name for name in NAMES if not os.environ.get(name)]
    if not missing:
        return count
    if count > 1:
        raise ConfigError(
            f"WORLD_SIZE = {count} in the environment, but {', '.join(missing)} not: which of "
            f"{count} processes this is, or where the others are, is not known",
            remedy="start it by `torchrun --nproc-per-node N -m depthtok.cli ...`, or alone after "
            "`unset WORLD_SIZE`",
        )
    return 0


def local_rank() -> int:
    """The number of this process on its machine; 0 where it is not stated."""
    return int(os.environ.get("LOCAL_RANK") or 0)
