"""Depth Anything 3 learns: relative depth up to scale and shift, or metres by the focal length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from depthtok.data import FrameClip
from depthtok.errors import ConfigError
from pipelines.depth.da3.config import DA3Config
from pipelines.depth.da3.estimator import kind_of, load_estimator
from pipelines.depth.da3.metres import intrinsics_of, metres_factor
from pipelines.depth.da3.network import DA3
from pipelines.depth.da3.preprocess import network_sizes, opencv, preprocess
from pipelines.depth.da3.weights import PREFIX, find_weights, load_network
from pipelines.depth.learning.learner import Learner, by_frames
from pipelines.depth.origin import WeightsOrigin
from pipelines.depth.single_frames.config import FrameConfig
from pipelines.depth.single_frames.estimator import FrameEstimator
from pipelines.depth.vida.config import RunConfig

TOLERANCE = 0.05  # of a stated focal length against the data's own


@dataclass(frozen=True, kw_only=True)
class DA3Learner(Learner):
    """A network that sees single frames. `focal_px`: the focal length in pixels of the frame, 0 for
    the data's own."""

    metric: bool
    focal_px: float

    def inputs(self, frames: UInt8[Tensor, "T H W 3"], input_size: int) -> Float[Tensor, "T ..."]:
        """Frames resized by OpenCV and normalised, as the authors do it."""
        return preprocess(frames.numpy(), input_size)

    def depth(
        self, inputs: Float[Tensor, "B T ..."], size: tuple[int, int]
    ) -> Float[Tensor, "B T h w"]:
        """The network's depth, at the size of the input. (Its map of the sky, or its confidence,
        learns nothing.)"""
        return by_frames(lambda frames: self.network(frames)[0], inputs)

    def metres_factor(
        self, clip: FrameClip, size: tuple[int, int], net: tuple[int, int]
    ) -> float | None:
        """f / 300 for the metric network. Raises `SourceError` where f is not known."""
        return metres_factor(clip, self.focal_px, size, net) if self.metric else None

    def require(self, clips: Sequence[FrameClip]) -> None:
        """Raises `SourceError` where a clip's focal length is not known, or that of no camera, and
        `ConfigError` where the stated one contradicts the data. Clips with the same matrix are
        looked at once."""
        cameras = set()
        for clip in clips if self.metric else ():
            matrix = intrinsics_of(clip)
            identity = clip.camera.name, None if matrix is None else matrix.tobytes()
            if identity in cameras:
                continue
            cameras.add(identity)
            height, width = clip.read(0, 1).shape[1:3]
            net = network_sizes(height, width, max(height, width))[1]
            self.metres_factor(clip, (height, width), net)
            if matrix is None or not self.focal_px:
                continue
            of_data = float(matrix[0, 0] + matrix[1, 1]) / 2
            if abs(self.focal_px / of_data - 1) > TOLERANCE:
                raise ConfigError(
                    f"focal_px={self.focal_px:g} contradicts the data: the intrinsics of camera "
                    f"{clip.camera.name!r} say {of_data:g} px, and true depth would teach another "
                    "scale",
                    remedy="leave focal_px out; or mend intrinsics_key in the data set's schema",
                )


@dataclass(frozen=True)
class DA3Family:
    """One of these networks, with the focal length that was stated. Raises `MissingPackage` without
    OpenCV."""

    config: DA3Config
    frame: FrameConfig

    def __post_init__(self) -> None:
        opencv()

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def recorded(self) -> Mapping[str, str]:
        return {"focal_px": repr(self.frame.focal_px)} if self.frame.focal_px else {}

    @property
    def input_size(self) -> int:
        return self.config.input_size

    @property
    def tells_kind(self) -> bool:
        return True

    @property
    def notice(self) -> str:
        return ""

    def fresh(self, seed: int) -> DA3Learner:
        """With random weights."""
        torch.manual_seed(seed)
        network = DA3(self.config)
        encoder = network.backbone["pretrained"]
        tables = ["pos_embed", "cls_token", *(["camera_token"] if self.config.views else [])]
        for name in tables:
            nn.init.trunc_normal_(encoder.get_parameter(name), std=0.02)
        return self._learner(network, WeightsOrigin())

    def load(self, weights: Path | None) -> DA3Learner:
        """With the weights of a file; mono weights may become metric ones, and the reverse. Raises
        `WeightsError`."""
        path = find_weights(self.name, weights)
        return self._learner(*load_network(self.config, path, any_kind=True))

    def _learner(self, network: DA3, origin: WeightsOrigin) -> DA3Learner:
        variant = ", ".join((self.name, *(f"{k} {v}" for k, v in self.recorded.items())))
        return DA3Learner(
            network,
            variant,
            kind_of(self.config),
            origin,
            metric=self.config.metric,
            focal_px=self.frame.focal_px,
        )

    def tensors(self, network: nn.Module) -> dict[str, Tensor]:
        """What depth of one image takes, by the official names."""
        return {f"{PREFIX}{name}": value for name, value in network.state_dict().items()}

    def estimator(self, weights: Path, input_size: int, device: torch.device) -> FrameEstimator:
        """The estimator with the weights of a file. Raises `WeightsError`."""
        run = RunConfig(input_size=input_size, frame=self.frame)
        return load_estimator(self.config, weights, run, device)
