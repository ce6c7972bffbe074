"""AdamW whose moments take 8 bits (arXiv 2110.02861), as torchao has it: an optional package.

It keeps large moments as codes, a scale for every 256 of them, and the codes' values. Checkpoints
hold these three as they are, so that a resumed run goes on from the same bits.
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
    """What a checkpoint holds of a moment, by name. Small moments are plain tensors."""
    if hasattr(moment, "codes"):
        return {f"{name}.{part}": getattr(moment, part) for part in PARTS}
    return {name: moment}


def joined(name: str, tensors: Mapping[str, Tensor]) -> Tensor | None:
    """The inverse of `parts`: the moment `name` among `tensors`, if it is there."""
    if f"{name}.codes" not in tensors:
        return tensors.get(name)
    from torchao.optim.subclass_8bit import OptimState8bit

    signed = name.startswith("exp_avg/")  # the other one, of squares, is not
    return OptimState8bit(*(tensors[f"{name}.{part}"] for part in PARTS), signed)
