"""A network that learns depth, and its family: all that fine-tuning asks of either.

The training (`finetune.py`, `course.py`) is one for all families. A family loads, saves
and runs its networks; a learner makes its network's input of frames, and depth of that input.

Letters: B windows, T frames.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from depthtok.data import DepthEstimator, DepthKind, FrameClip
from pipelines.depth.origin import WeightsOrigin


@dataclass(frozen=True)
class Learner(ABC):
    """A network on its way. `variant` says in words which it is: a run of another variant is not
    gone on with."""

    network: nn.Module
    variant: str
    kind: DepthKind
    origin: WeightsOrigin  # what is known of the weights that it starts from

    @property
    def at_frame_size(self) -> bool:
        """Whether its depth has the frames' size, or that of its input."""
        return False

    @abstractmethod
    def inputs(self, frames: UInt8[Tensor, "T H W 3"], input_size: int) -> Float[Tensor, "T ..."]:
        """The network's input of frames, as `annotate` makes it. Raises `SourceError`."""

    @abstractmethod
    def depth(
        self, inputs: Float[Tensor, "B T ..."], size: tuple[int, int]
    ) -> Float[Tensor, "B T h w"]:
        """Depth of its `kind`, with a gradient, of frames of a `size` (height and width, px)."""

    def metres_factor(
        self, clip: FrameClip, size: tuple[int, int], net: tuple[int, int]
    ) -> float | None:
        """What makes metres of its depth for frames of a `size` that are a network's input of size
        `net`; None where it gives its kind by itself. Raises `SourceError`."""
        return None

    def require(self, clips: Sequence[FrameClip]) -> None:
        """Raises `SourceError` or `ConfigError` for clips that it cannot learn from, before the
        first step."""
        return


@runtime_checkable
class Family(Protocol):
    """A network by the name of its estimator, with what of it was chosen, before its weights are
    loaded."""

    @property
    def name(self) -> str: ...

    @property
    def recorded(self) -> Mapping[str, str]: ...  # what was chosen, for the card

    @property
    def input_size(self) -> int: ...  # px; 0: its own processor's

    @property
    def tells_kind(self) -> bool: ...  # whether its name says which kind its depth is of

    @property
    def notice(self) -> str: ...  # to be shown once before its weights are used; "" for none

    def fresh(self, seed: int) -> Learner:
        """With random weights. Raises `ConfigError` where it has none."""
        ...

    def load(self, weights: Path | None) -> Learner:
        """With the weights of a file, or those of the usual places. Raises `WeightsError`."""
        ...

    def tensors(self, network: nn.Module) -> dict[str, Tensor]:
        """What a file of its weights holds, by the official names."""
        ...

    def estimator(self, weights: Path, input_size: int, device: torch.device) -> DepthEstimator:
        """The estimator with the weights of a file, as `annotate` builds it."""
        ...


def by_frames(
    depth: Callable[[Tensor], Tensor], inputs: Float[Tensor, "B T ..."]
) -> Float[Tensor, "B T h w"]:
    """The depth of all frames of some windows, each seen alone: `depth` takes [n ...] and gives
    [n h w]."""
    return depth(inputs.flatten(0, 1)).unflatten(0, inputs.shape[:2])
