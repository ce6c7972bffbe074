"""What a function would launch on a GPU, counted without one, on tensors without memory.

An operator that is no view is a launch. Attention, and a norm without its parts, are one each, as
their kernels are. A product that adds a matrix first copies it, unless it adds in place: that copy
is a launch of its own, which profilers show and operators hide; it is counted apart, as `copies`.
Not in it: memory sets, helpers of products that split their sum, kernels that a library adds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

NO_LAUNCH = {
    "_unsafe_view",
    "_reshape_alias",
    "empty",
    "empty_like",
    "empty_strided",
    "new_empty",
    "detach",
    "lift_fresh",
}
ADDS = {"addmm", "baddbmm", "addmv"}  # in place they do not copy


@dataclass
class Tally:
    """Launches by operator with its dtypes, bytes read and written, hidden copies."""

    launches: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    copies: int = 0

    def add(self, name: str, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        """One launch."""
        kinds = {str(t.dtype).removeprefix("torch.") for t in inputs if t.is_floating_point()}
        self.launches[f"{name} {','.join(sorted(kinds))}".strip()] += 1
        self.bytes += sum(map(held, inputs)) + sum(map(held, outputs))

    @property
    def total(self) -> int:
        return self.launches.total()


def held(tensor: Tensor) -> int:
    """Bytes of its memory; what it repeats counts once."""
    count = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        count *= size if stride else 1
    return count * tensor.element_size()


class Launching(TorchDispatchMode, ABC):
    """Passes every operator that is a launch to `launch`, which may give other results for it."""

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = operator(*args, **kwargs)
        name = operator.__name__.split(".")[0]
        if operator.is_view or name in NO_LAUNCH or not tensors(result):
            return result  # without a tensor: it answers a question about dtypes
        return self.launch(name, operator, args, kwargs, result)

    @abstractmethod
    def launch(self, name: str, operator, args: tuple, kwargs: dict, result: Any) -> Any:
        """Counts an operator; gives its result."""


def tensors(tree: Any) -> list[Tensor]:
    """All tensors of nested arguments or results."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


class _Counting(Launching):
    def __init__(self) -> None:
        super().__init__()
        self.tally = Tally()

    def launch(self, name: str, operator, args: tuple, kwargs: dict, result: Any) -> Any:
        filled = name.startswith("new_") or name.endswith("_like")  # reads nothing of its input
        self.tally.add(name, [] if filled else tensors((args, kwargs)), tensors(result))
        self.tally.copies += name in ADDS and args[0].dim() > 1
        return result


@contextmanager
def counting() -> Iterator[Tally]:
    """Counts what runs within the block. Give it tensors on the meta device."""
    mode, attention, norm = _Counting(), F.scaled_dot_product_attention, F.rms_norm

    def attend(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        inputs = [q, k, v]
        if attn_mask is not None:
            if attn_mask.dtype == torch.bool:  # made a bias at every call
                nothing, never = q.new_zeros(attn_mask.shape), q.new_full((), -torch.inf)
                attn_mask = torch.where(attn_mask, nothing, never)
            inputs.append(attn_mask)
        mode.tally.add("attention", inputs, [q])
        return q.new_empty(q.transpose(1, 2).shape).transpose(1, 2)

    def normed(x: Tensor, *_: Any, **__: Any) -> Tensor:
        mode.tally.add("rms_norm", [x], [x])
        return torch.empty_like(x)

    F.scaled_dot_product_attention, F.rms_norm = attend, normed
    try:
        with mode:
            yield mode.tally
    finally:
        F.scaled_dot_product_attention, F.rms_norm = attention, norm
