"""The model's input: one batch of tensors."""

# B batch, I cameras, L text tokens, P proprio dimensions, C chunk, A action dimensions
# M cameras with codes, K code positions of a camera

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

Kind = TypeVar("Kind", bound="Observation")


@dataclass(frozen=True)
class Observation:
    """What the policy sees. Proprio is normalised."""

    images_BIHW3: UInt8[Tensor, "B I H W 3"]
    text_BL: Int[Tensor, "B L"]
    text_valid_BL: Bool[Tensor, "B L"]
    proprio_BP: Float[Tensor, "B P"]

    def to(self: Kind, device: torch.device | str) -> Kind:
        """A copy on another device."""
        moved = {
            field.name: getattr(self, field.name).to(device, non_blocking=True)
            for field in fields(self)
        }
        return type(self)(**moved)

    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors, in the order of the fields."""
        return tuple(getattr(self, field.name) for field in fields(self))

    def rows(self: Kind, start: int, stop: int) -> Kind:
        """The samples from `start` up to `stop`."""
        return type(self)(**{f.name: getattr(self, f.name)[start:stop] for f in fields(self)})

    def __len__(self) -> int:
        return len(self.text_BL)


@dataclass(frozen=True)
class Guided(Observation):
    """An observation with its depth codes, for policies that take them as an input."""

    depth_BMK: Int[Tensor, "B M K"] | UInt8[Tensor, "B M K"]
    depth_valid_BM: Bool[Tensor, "B M"]


@dataclass(frozen=True)
class Batch(Observation):
    """An observation with its target actions (normalised) and depth targets."""

    actions_BCA: Float[Tensor, "B C A"]
    action_valid_BC: Bool[Tensor, "B C"]
    depth_BMK: Int[Tensor, "B M K"] | UInt8[Tensor, "B M K"] | Float[Tensor, "B M K"]
    depth_valid_BM: Bool[Tensor, "B M"]
