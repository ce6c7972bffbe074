"""AdamW with 8-bit moments (arXiv 2110.02861), from torchao, an optional package.

Large moments are stored as codes, one scale per 256 of them, and a lookup table of code values.
Checkpoints store these three unchanged, so that a resumed run continues from the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from depthtok.errors import MissingPackage

PARTS = ("codes", "scale", "qmap")


def adamw() -> type[torch.optim.Optimizer]:
    """The optimiser's class. Raises `MissingPackage`."""
    try:
        from torchao.optim import AdamW8bit
    except ImportError as error:
        raise MissingPackage(
            "train.optimizer = 'adamw8bit' needs the package `torchao`",
            remedy="pip install 'depthtok[eightbit]'",
        ) from error
    return AdamW8bit


def parts(name: str, moment: Tensor) -> dict[str, Tensor]:
    """The tensors stored in a checkpoint for a moment, by name; small moments are plain tensors."""
    if hasattr(moment, "codes"):
        return {f"{name}.{part}": getattr(moment, part) for part in PARTS}
    return {name: moment}


def joined(name: str, tensors: Mapping[str, Tensor]) -> Tensor | None:
    """The inverse of `parts`: the moment `name` from `tensors`, if present."""
    if f"{name}.codes" not in tensors:
        return tensors.get(name)
    from torchao.optim.subclass_8bit import OptimState8bit

    signed = name.startswith("exp_avg/")  # the second moment (of squares) is not
    return OptimState8bit(*(tensors[f"{name}.{part}"] for part in PARTS), signed)
