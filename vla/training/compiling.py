"""The layers through torch.compile: every size has code of its own, and none runs eagerly unsaid.

Shapes are static (`dynamic=False`). Left to itself, torch makes code for any size out of the second
one that it meets, on which its code generator fails in the backward pass, and it gives up on a
function after eight versions: from then on that runs eagerly, without an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from depthtok.errors import ConfigError, TrainingError

VERSIONS = 64  # of one function: five for a size of Gemma's layers, and as many in validation


class Compiled:
    """A layer's forward function, compiled for each size. Raises `TrainingError` where it cannot
    be. `budget` is the share of activations to keep for the backward pass."""

    def __init__(self, forward: Callable, backend: Any, budget: float) -> None:
        import torch._dynamo
        import torch._functorch.config

        if torch._dynamo.config.disable:
            raise ConfigError(
                "torch.compile is switched off (TORCHDYNAMO_DISABLE): layers would run eagerly",
                remedy="unset TORCHDYNAMO_DISABLE, or leave run.compile out",
            )
        self.call = torch.compile(forward, fullgraph=True, dynamic=False, backend=backend)
        self.budget = budget

    def __call__(self, *inputs: Any) -> Any:
        with ExitStack() as settings:  # at every call: backward passes recompute in other threads
            limits = torch._dynamo.config.patch(recompile_limit=VERSIONS)
            settings.enter_context(limits)
            if self.budget < 1:
                keep = torch._functorch.config.patch(activation_memory_budget=self.budget)
                settings.enter_context(keep)
            if torch.are_deterministic_algorithms_enabled():
                settings.enter_context(deterministic())
            settings.enter_context(explained())
            return self.call(*inputs)


@contextmanager
def deterministic() -> Iterator[None]:
    """Code that is made in the block does not depend on measurements, that of the backward pass
    included. Left to itself, torch makes the latter in the thread of the backward pass, which on
    CUDA is another: there its settings, which are those of a thread, would be the usual ones."""
    import torch._functorch.config
    import torch._inductor.config

    with ExitStack() as settings:
        for config, name in (
            (torch._inductor.config, "deterministic"),
            (torch._functorch.config, "force_non_lazy_backward_lowering"),
        ):
            if hasattr(config, name):  # older versions: `vla.training.deterministic` refuses them
                settings.enter_context(config.patch({name: True}))
        yield


@contextmanager
def explained() -> Iterator[None]:
    """What torch.compile raises in the block, forward or backward, becomes a `TrainingError`."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, _failures()):
            raise
        reason = " ".join(str(error).split("\n")[:2]).strip() or type(error).__name__
        raise TrainingError(
            f"torch.compile cannot compile the layers: {reason}",
            remedy="leave run.compile out, or set a run.micro_batch that divides a process's share "
            f"of the batch (each size is compiled anew, at most {VERSIONS} times)",
        ) from error


def _failures() -> tuple[type[Exception], ...]:
    """None of them can have happened before torch's compiler is loaded."""
    import sys

    module = sys.modules.get("torch._dynamo.exc")
    return (module.TorchDynamoException, module.FailOnRecompileLimitHit) if module else ()
