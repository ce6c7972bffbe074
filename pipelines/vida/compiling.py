"""torch.compile, where it works.

Compiled code rounds in its own way. So whether a machine can compile is found out once, before
anything is made, and is part of what the depth is made with: there is no going on without it
halfway through a store.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from depthtok.errors import ConfigError

log = logging.getLogger(__name__)

Inputs = ParamSpec("Inputs")
Output = TypeVar("Output")


def can_compile(device: torch.device) -> bool:
    """Whether torch.compile makes code that runs here; where it does not, a warning says why."""
    try:
        _compile(_trial)(torch.ones(8, device=device))
    except RuntimeError as error:
        log.warning("going on without torch.compile, which fails here: %s", _reason(error))
        return False
    return True


def compiled(part: Callable[Inputs, Output]) -> Callable[Inputs, Output]:
    """`part` through torch.compile, once for each shape of its inputs.

    Raises `ConfigError` where that fails: whole or not at all, never partly as it was.
    """
    call = _compile(part)

    def run(*args: Inputs.args, **kwargs: Inputs.kwargs) -> Output:
        try:
            return call(*args, **kwargs)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise ConfigError(
                f"torch.compile cannot take this network: {_reason(error)}",
                remedy="leave --compile out",
            ) from error

    return run


def _compile(part: Callable[Inputs, Output]) -> Callable[Inputs, Output]:
    """Sizes are constants: which code a size meets must not follow from those that came before."""
    return torch.compile(part, fullgraph=True, dynamic=False)


def _trial(x: Tensor) -> Tensor:
    return x.sin() + x.cos()


def _reason(error: Exception) -> str:
    """The start of a message that may run to pages: who failed, and with what."""
    return " ".join(str(error).split("\n")[:2]).strip() or type(error).__name__
