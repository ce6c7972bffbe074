"""torch.compile, where it works.

Compiled code rounds differently. So whether a machine can compile is determined once, at the start,
and recorded as part of the estimator: there is no falling back halfway through a store.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from depthtok.disk.regular import gpu_failure
from depthtok.errors import ConfigError

log = logging.getLogger(__name__)

VERSIONS = 64  # of one part in a process: cameras differ in size; torch gives up after eight

Inputs = ParamSpec("Inputs")
Output = TypeVar("Output")


def can_compile(device: torch.device, *, required: bool = False) -> bool:
    """Whether torch.compile works here; if not, a warning says why. Where it is `required`, because
    a store is made with it, raises `ConfigError`. Raises `WorkerDied` where the GPU fails."""
    try:
        _compile(_trial)(torch.ones(8, device=device))
    except RuntimeError as error:
        if failure := gpu_failure(error):
            raise failure from error
        if required:
            raise ConfigError(
                f"this store is made with torch.compile, which fails on {platform.node()}: "
                f"{_reason(error)}",
                remedy="install what is missing there (a C++ compiler; for a GPU, Triton), or "
                "annotate into another --out without --compile",
            ) from error
        log.warning("continuing without torch.compile, which fails here: %s", _reason(error))
        return False
    return True


def compiled(part: Callable[Inputs, Output]) -> Callable[Inputs, Output]:
    """`part` compiled by torch.compile, once for each shape of its inputs.

    Raises `ConfigError` if that fails: all or nothing, without a fallback to eager code. Raises
    `WorkerDied` where the GPU fails.
    """
    call = _compile(part)

    def run(*args: Inputs.args, **kwargs: Inputs.kwargs) -> Output:
        try:
            with torch._dynamo.config.patch(recompile_limit=VERSIONS):
                return call(*args, **kwargs)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if failure := gpu_failure(error):
                raise failure from error
            raise ConfigError(
                f"torch.compile cannot compile this network: {_reason(error)}",
                remedy="leave --compile out",
            ) from error

    return run


def _compile(part: Callable[Inputs, Output]) -> Callable[Inputs, Output]:
    """Compiles with static shapes: the code for a size must not depend on earlier sizes."""
    return torch.compile(part, fullgraph=True, dynamic=False)


def _trial(x: Tensor) -> Tensor:
    return x.sin() + x.cos()


def _reason(error: Exception) -> str:
    """The start of a message that may be pages long: what failed, and how."""
    return " ".join(str(error).split("\n")[:2]).strip() or type(error).__name__
