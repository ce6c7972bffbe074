"""Depth models of transformers learn, through their own processor: it makes their input, and depth
of the frames' size, to which true depth is brought."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from depthtok.errors import ConfigError
from pipelines.depth.hf.estimator import load_estimator, spec_of
from pipelines.depth.hf.models import Loaded, Source, open_source, plain_name, published_tensors
from pipelines.depth.hf.reference import Reference
from pipelines.depth.learning.learner import Learner, by_frames
from pipelines.depth.origin import WeightsOrigin
from pipelines.depth.single_frames.config import FrameConfig
from pipelines.depth.single_frames.estimator import FrameEstimator
from pipelines.depth.vida.config import RunConfig

TRAINABLE = ("depth_anything", "dpt", "glpn", "zoedepth")
"""The families whose processor makes depth of their output by differentiable steps."""
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class HfLearner(Learner):
    """A model that sees single frames."""

    loaded: Loaded

    @property
    def at_frame_size(self) -> bool:
        return True

    def inputs(self, frames: UInt8[Tensor, "T H W 3"], input_size: int) -> Float[Tensor, "T ..."]:
        """What the processor makes of frames. Raises `SourceError` for a size that it refuses."""
        return self.loaded.inputs(frames.numpy())

    def depth(
        self, inputs: Float[Tensor, "B T ..."], size: tuple[int, int]
    ) -> Float[Tensor, "B T h w"]:
        """What the processor makes of the model's depth, without the pass over mirror images."""
        return by_frames(lambda frames: self.loaded.depth(frames, size, flipped=False), inputs)


@dataclass(frozen=True)
class HfFamily:
    """A model by its name, with the kind of its depth where that was stated."""

    reference: str  # hf:OWNER/NAME, with a revision or without, or hf:DIRECTORY
    frame: FrameConfig
    notice: str
    input_size: int = 0
    tells_kind: bool = False

    @property
    def name(self) -> str:
        return plain_name(Reference.of(self.reference))

    @property
    def recorded(self) -> Mapping[str, str]:
        return {}

    @cached_property
    def source(self) -> Source:
        """Its repository. Raises `ConfigError` for a family that is not trained here."""
        source = open_source(self.reference, self.frame.kind)
        if source.config.model_type not in TRAINABLE:
            raise ConfigError(
                f"{self.reference} is of the family {source.config.model_type}, which cannot be "
                "fine-tuned here",
                remedy=f"choose a model of {', '.join(TRAINABLE)}",
            )
        return source

    def fresh(self, seed: int) -> HfLearner:
        """With random weights. Raises as `source` does."""
        source = self.source
        torch.manual_seed(seed)
        return self._learner(source.fresh())

    def load(self, weights: Path | None) -> HfLearner:
        """With the repository's weights, or those of a file. Raises `WeightsError`, and as `source`
        does."""
        source = self.source
        return self._learner(source.model() if weights is None else source.model_with(weights))

    def _learner(self, loaded: Loaded) -> HfLearner:
        spec = spec_of(loaded, self.frame, CPU, "float32")
        configuration = dict(spec.settings)["configuration"]
        variant = f"{spec.name}, {spec.kind}, configuration {configuration[:12]}"
        pinned = self.source.reference
        revision = WeightsOrigin((self.name,), f"revision {pinned.revision}")
        origin = loaded.origin or (WeightsOrigin() if pinned.local else revision)
        return HfLearner(loaded.model, variant, spec.kind, origin, loaded=loaded)

    def tensors(self, network: nn.Module) -> dict[str, Tensor]:
        """All of the model's, by the names that published files have."""
        return published_tensors(network)

    def estimator(self, weights: Path, input_size: int, device: torch.device) -> FrameEstimator:
        """The estimator with the weights of a file. Raises `WeightsError`."""
        return load_estimator(self.reference, weights, RunConfig(frame=self.frame), device)
