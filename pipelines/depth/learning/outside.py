"""Estimators of other packages learn, if their class offers what that takes.

Beside what `outside.py` asks of a class that knows the depth of frames, two things:

    class Mine:
        module: torch.nn.Module  # the network: what `inputs` gives to depth [n, h, w] of its kind
        def inputs(self, frames):  # uint8 tensor [n, H, W, 3] -> a tensor [n, ...], on the CPU

`module(inputs(frames))` is what `depth(frames)` gives, with a gradient: that is tried on a frame
before the first step. What was learned is written as a .safetensors file of `module.state_dict()`,
which `__init__(weights, device)` reads: that is held against `module` in the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from depthtok.data import DepthEstimator, DepthKind, FrameClip
from depthtok.errors import ConfigError, WeightsError
from pipelines.depth.learning.learner import Learner, by_frames
from pipelines.depth.origin import WeightsOrigin, by_metadata
from pipelines.depth.outside import (
    build,
    class_of,
    kind_of,
    made,
    package_of,
    require_kind,
)
from pipelines.depth.promises import failure_of, numbers_of, origin_said
from pipelines.depth.single_frames.config import FrameConfig
from pipelines.depth.vida.config import RunConfig
from pipelines.depth.vida.head import resize
from pipelines.depth.vida.weights import read_weights

CLOSE = 1e-3  # of the largest depth: how far `module` may be from `depth`
OFFER = (
    "its class offers `module`, a torch.nn.Module from `inputs(frames)` to depth: see "
    "examples/own_estimator"
)


@runtime_checkable
class Teachable(Protocol):
    """What a class of another package makes that can learn."""

    @property
    def module(self) -> nn.Module: ...

    def inputs(self, frames: UInt8[Tensor, "n H W 3"]) -> Tensor: ...

    def depth(self, frames: UInt8[np.ndarray, "n H W 3"]) -> np.ndarray: ...


@dataclass(frozen=True, kw_only=True)
class OutsideLearner(Learner):
    """The network of such a class, which sees single frames."""

    name: str
    teachable: Teachable

    @property
    def at_frame_size(self) -> bool:
        return True

    def inputs(self, frames: UInt8[Tensor, "T H W 3"], input_size: int) -> Float[Tensor, "T ..."]:
        """What the class makes of frames. Raises `SourceError` where it raises, and `ConfigError`
        for something else than a tensor with an entry a frame."""
        try:
            inputs = self.teachable.inputs(frames)
        except Exception as error:
            raise failure_of(self.name, error) from error
        if not isinstance(inputs, Tensor) or inputs.shape[:1] != frames.shape[:1]:
            raise ConfigError(
                f"`inputs` of the estimator {self.name!r} gave no tensor of {len(frames)} frames",
                remedy="mend that package",
            )
        return inputs

    def depth(
        self, inputs: Float[Tensor, "B T ..."], size: tuple[int, int]
    ) -> Float[Tensor, "B T h w"]:
        """The module's depth, resized as for inference. Raises `ConfigError` for another shape, or
        without a gradient."""
        return by_frames(lambda frames: self._depth(frames, size), inputs)

    def _depth(self, inputs: Tensor, size: tuple[int, int]) -> Float[Tensor, "n h w"]:
        depth = self.network(inputs)
        if not isinstance(depth, Tensor) or depth.ndim != 3 or len(depth) != len(inputs):
            raise ConfigError(
                f"`module` of the estimator {self.name!r} does not give depth of shape "
                f"[{len(inputs)}, height, width]",
                remedy="mend that package",
            )
        if torch.is_grad_enabled() and not depth.requires_grad:
            raise ConfigError(
                f"the depth of `module` of the estimator {self.name!r} has no gradient",
                remedy="mend that package: its parameters require one, and nothing detaches it",
            )
        return resize(depth[:, None], size)[:, 0] if depth.shape[1:] != size else depth

    def require(self, clips: Sequence[FrameClip]) -> None:
        """Raises `ConfigError` where the module's depth of a frame is not that of `depth`."""
        frames = clips[0].read(0, 1)
        size = (frames.shape[1], frames.shape[2])
        self.network.eval()
        with torch.no_grad():
            inputs = self.inputs(torch.from_numpy(np.ascontiguousarray(frames)), 0)
            learned = self._depth(inputs, size).float().numpy()
        try:
            answer = self.teachable.depth(frames)
        except Exception as error:
            raise failure_of(self.name, error) from error
        used = numbers_of(self.name, answer)
        if used.ndim == 3 and used.size and used.shape[1:] != size:
            used = resize(torch.from_numpy(used)[:, None], size)[:, 0].numpy()
        there = np.isfinite(used)
        if not there.any():
            raise ConfigError(
                f"depth(frames) of the estimator {self.name!r} gave no depth of the first frame of "
                f"{clips[0].key}: there is nothing to hold module(inputs(frames)) against",
                remedy="mend that package, or give other weights",
            )
        apart = used.shape != learned.shape or not np.allclose(
            used[there], learned[there], rtol=0, atol=CLOSE * float(np.abs(used[there]).max())
        )
        if apart:
            raise ConfigError(
                f"module(inputs(frames)) of the estimator {self.name!r} is not what depth(frames) "
                "gives: what is learned would not be what is used",
                remedy="mend that package: `depth` calls `module` on `inputs`",
            )


@dataclass(frozen=True)
class OutsideFamily:
    """An estimator of another package, by its entry point. Raises `ConfigError` for a class that
    offers nothing to train."""

    point: EntryPoint
    frame: FrameConfig
    notice: str
    input_size: int = 0
    tells_kind: bool = False

    def __post_init__(self) -> None:
        if not callable(getattr(class_of(self.point), "inputs", None)):
            raise self._refusal()

    def _refusal(self) -> ConfigError:
        return ConfigError(
            f"the estimator {self.name!r} of {package_of(self.point)} offers nothing to fine-tune",
            remedy=f"it can be where {OFFER}",
        )

    @property
    def name(self) -> str:
        return self.point.name

    @property
    def recorded(self) -> Mapping[str, str]:
        return {"package": package_of(self.point), "class": self.point.value}

    @property
    def kind(self) -> DepthKind:
        """Of its depth, as the class says or as was stated. Raises `ConfigError`."""
        return kind_of(self.point, self.frame.kind)

    def fresh(self, seed: int) -> OutsideLearner:
        """Raises `ConfigError`: what weights a class begins with is its own affair."""
        raise ConfigError(
            f"the estimator {self.name!r} begins with the weights that its class makes",
            remedy="leave --from-scratch out",
        )

    def load(self, weights: Path | None) -> OutsideLearner:
        """With the weights of a file, or those that its class makes without. Raises `ConfigError`,
        `WeightsError`."""
        require_kind(self.point, weights, self.frame.kind)
        teachable = self._made(weights, torch.device("cpu"))
        said = origin_said(self.name, teachable)
        in_file = by_metadata(weights, (self.name,)) if weights else None
        version = str(getattr(type(teachable), "version", "1"))
        return OutsideLearner(
            teachable.module,
            f"{self.name}, {self.kind}, version {version}",
            self.kind,
            said or in_file or WeightsOrigin(),
            name=self.name,
            teachable=teachable,
        )

    def _made(self, weights: Path | None, device: torch.device) -> Teachable:
        if weights is not None and not weights.is_file():
            raise WeightsError(f"there is no file {weights}", remedy="give --weights another path")
        teachable = made(self.point, weights, device)
        if not isinstance(teachable, Teachable) or not isinstance(teachable.module, nn.Module):
            raise self._refusal()
        return teachable

    def tensors(self, network: nn.Module) -> dict[str, Tensor]:
        """All of the module's, by their own names; one that has several names is written under
        each."""
        return {name: value.clone() for name, value in network.state_dict().items()}

    def estimator(self, weights: Path, input_size: int, device: torch.device) -> DepthEstimator:
        """The estimator with the weights of a file. Raises `WeightsError` where its class did not
        take them."""
        of_class, state = self._made(weights, device).module.state_dict(), read_weights(weights)
        same = of_class.keys() == state.keys() and all(
            torch.equal(of_class[key].cpu().float(), value.float()) for key, value in state.items()
        )
        if not same:
            raise WeightsError(
                f"the estimator {self.name!r} did not take the weights in {weights}: its `module` "
                "has others",
                remedy="mend its __init__(weights, device): safetensors.torch.load_file(weights) "
                "is the state of `module`; then give the same command again",
            )
        return build(self.point, weights, RunConfig(frame=self.frame), device)
