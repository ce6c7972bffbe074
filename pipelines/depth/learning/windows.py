"""Video-Depth-Anything and GemDepth learn: networks that see windows of a clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from pipelines.depth.families import estimator_of, fresh, licence_notice, load, weights_of
from pipelines.depth.learning.learner import Learner
from pipelines.depth.vida.config import RunConfig, ViDAConfig
from pipelines.depth.vida.estimator import ViDAEstimator, kind_of
from pipelines.depth.vida.network import VideoDepth
from pipelines.depth.vida.preprocess import network_size, preprocess


@dataclass(frozen=True)
class WindowLearner(Learner):
    """A network that sees the frames of a window together."""

    @classmethod
    def of(cls, network: VideoDepth) -> WindowLearner:
        """The learner of a network."""
        config = network.config
        return cls(network, config.variant, kind_of(config), network.origin)

    def inputs(self, frames: UInt8[Tensor, "T H W 3"], input_size: int) -> Float[Tensor, "T ..."]:
        """Frames resized and normalised. Raises `SourceError` for a shape that is too elongated."""
        return preprocess(frames, network_size(frames.shape[1], frames.shape[2], input_size))

    def depth(
        self, inputs: Float[Tensor, "B T ..."], size: tuple[int, int]
    ) -> Float[Tensor, "B T h w"]:
        """Disparity or metres, at the size of the input."""
        return self.network(inputs)


@dataclass(frozen=True)
class WindowFamily:
    """One of these networks."""

    config: ViDAConfig

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def recorded(self) -> Mapping[str, str]:
        return self.config.recorded

    @property
    def input_size(self) -> int:
        return self.config.input_size

    @property
    def tells_kind(self) -> bool:
        return True

    @property
    def notice(self) -> str:
        return licence_notice(self.config)

    def fresh(self, seed: int) -> WindowLearner:
        """With random weights."""
        return WindowLearner.of(fresh(self.config, seed))

    def load(self, weights: Path | None) -> WindowLearner:
        """With the weights of a file, of a relative or of a metric network: it is taught its own
        kind. Raises `WeightsError`."""
        path = weights_of(self.config, weights)
        return WindowLearner.of(load(self.config, path, any_kind=True))

    def tensors(self, network: nn.Module) -> dict[str, Tensor]:
        """All of the network's, by their own names."""
        return network.state_dict()

    def estimator(self, weights: Path, input_size: int, device: torch.device) -> ViDAEstimator:
        """The estimator with the weights of a file. Raises `WeightsError`."""
        run = RunConfig(input_size=input_size)
        return estimator_of(load(self.config, weights), run, device)
