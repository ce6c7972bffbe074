"""Depth Anything 3 as an estimator of single frames.

In float32, also on a GPU, unless another precision is asked for: then the encoder's products are
half, its residual stream, its positions and the whole head float32, as the authors run it; the
first frames are preceded by a trial against float32.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from depthtok.data import SHIFT, DepthClip, DepthKind, EstimatorSpec, FrameClip
from depthtok.errors import ConfigError
from pipelines.depth.da3.config import CONFIGS, DA3Config
from pipelines.depth.da3.metres import metres_factor
from pipelines.depth.da3.network import DA3
from pipelines.depth.da3.preprocess import opencv, preprocess
from pipelines.depth.da3.weights import find_weights, load_network
from pipelines.depth.origin import WeightsOrigin
from pipelines.depth.single_frames.estimator import READERS, FrameEstimator, Inputs, finite
from pipelines.depth.vida.config import RunConfig
from pipelines.depth.vida.estimator import device_name
from pipelines.depth.vida.halved import halved, require_close
from pipelines.depth.vida.head import resize
from pipelines.depth.vida.packed import packed
from pipelines.depth.vida.published import APACHE
from pipelines.depth.vida.weights import weights_hash
from vqvae.model.search import exact_float32

log = logging.getLogger(__name__)

ALGORITHM = "1"  # increased when the same weights and settings would give different depth
SKY = 0.3  # from here on a pixel is sky
ON_CPU, ON_GPU = 2, 16  # frames of a call
FULL_SIZE = 504 * 504  # pixels of an input for which that is meant


class DA3Network:
    """A network on a device, as `FrameNetwork` asks for it; moved there with the first frames.
    Raises `ConfigError` for half precision on a CPU."""

    def __init__(
        self,
        network: DA3,
        run: RunConfig,
        device: torch.device,
        origin: WeightsOrigin | None = None,
    ) -> None:
        config = network.config
        precision = precision_of(config, run, device)
        self._dtype: torch.dtype = getattr(torch, precision)
        self.config, self.frame, self.origin = config, run.frame, origin
        self.input_size = run.input_size or config.input_size
        self.spec = spec_of(network, run, device)
        self.readers = 0 if device.type == "cpu" else READERS
        self.halvings = 0
        self._device, self._network, self._placed = device, network, False

    @property
    def device(self) -> str:
        return device_name(self._device)

    @property
    def degraded(self) -> bool:
        """Whether the device ran out of memory, so that low bits of the result may differ."""
        return self.halvings > 0

    @property
    def group(self) -> int:
        """Frames of a call: by the type of device and the input size alone."""
        if self._device.type == "cpu":
            return ON_CPU
        return max(1, ON_GPU * FULL_SIZE // self.input_size**2)

    def prepare(self, frames: UInt8[np.ndarray, "n H W 3"]) -> Inputs:
        """Resized and normalised frames."""
        return preprocess(frames, self.input_size)

    def depth(self, inputs: Inputs, size: tuple[int, int], clip: FrameClip) -> DepthClip:
        """Depth at the frames' size, relative or in metres; sky is invalid where that is asked."""
        assert isinstance(inputs, Tensor)
        factor = self._metres_factor(size, (inputs.shape[2], inputs.shape[3]), clip)
        depth, sky = self._run(inputs)
        values = finite(resize(depth[:, None], size)[:, 0].cpu().numpy())
        if factor is not None:
            values = values * np.float32(factor)
        valid = None
        if self.frame.sky:
            valid = resize(sky[:, None], size)[:, 0].cpu().numpy() < SKY
        return DepthClip.of(values, self.spec.kind, valid, self.frame.shift)

    @torch.inference_mode()
    def _run(
        self, inputs: Float[Tensor, "n 3 h w"]
    ) -> tuple[Float[Tensor, "n h w"], Float[Tensor, "n h w"]]:
        """Depth and the sky map of some inputs, as many to a call as the device's memory allows.
        Elsewhere than on a CPU all calls have the same number, so that the same kernels run."""
        self._place()
        size = max(1, self.group >> self.halvings)
        try:
            with exact_float32(self._device) if self._device.type == "cuda" else nullcontext():
                return self._by_groups(inputs, size)
        except torch.OutOfMemoryError:
            if size == 1:
                raise
        # Not in the handler: there the error still holds what the failed call had begun.
        self.halvings += 1
        log.warning("out of memory: continuing with smaller groups; low bits may differ")
        return self._run(inputs)

    def _by_groups(
        self, inputs: Float[Tensor, "n 3 h w"], size: int
    ) -> tuple[Float[Tensor, "n h w"], Float[Tensor, "n h w"]]:
        parts = []
        for start in range(0, len(inputs), size):
            some = inputs[start : start + size]
            missing = 0 if self._device.type == "cpu" else size - len(some)
            padded = torch.cat((some, some[-1:].expand(missing, -1, -1, -1)))
            maps = self._network(padded.to(self._device))
            parts.append(tuple(value[: len(some)] for value in maps))
        depth, sky = (torch.cat(maps) for maps in zip(*parts, strict=True))
        return depth, sky

    def _place(self) -> None:
        if not self._placed:
            network = self._network.to(self._device).eval()
            self._network = packed(network) if self._device.type == "cpu" else network
            if self._dtype is not torch.float32:
                self._network = halved(network, self._dtype)
                require_close(network, self._network, self._dtype, depth_of_images)
            self._placed = True

    def _metres_factor(
        self, size: tuple[int, int], net: tuple[int, int], clip: FrameClip
    ) -> float | None:
        """What makes metres of the metric network's output: f / 300. Raises `SourceError` where
        the focal length of a clip is not known."""
        if not self.config.metric:
            return None
        return metres_factor(clip, self.frame.focal_px, size, net)


def depth_of_images(network: nn.Module, window: Float[Tensor, "1 T 3 H W"]) -> Tensor:
    """The depth of the frames of a window, each on its own."""
    return network(window[0])[0]


def precision_of(config: DA3Config, run: RunConfig, device: torch.device) -> str:
    """The precision of a run. Raises `ConfigError` for half precision on a CPU."""
    if run.precision not in (None, "float32") and device.type == "cpu":
        raise ConfigError(
            f"{run.precision} is for GPUs: {config.name} runs in float32 on a CPU",
            remedy="leave precision at auto",
        )
    return run.precision or "float32"


def load_estimator(
    config: DA3Config, weights: Path | None, run: RunConfig, device: torch.device
) -> FrameEstimator:
    """The network with its weights, ready to use. Without a path it searches the usual places.

    Raises `ConfigError`, `WeightsError`, or `MissingPackage` without OpenCV.
    """
    opencv()
    if run.frame.sky and config.views:
        raise ConfigError(
            f"{config.name} does not tell the sky", remedy="leave sky out, or use da3-mono-large"
        )
    network, origin = load_network(config, find_weights(config.name, weights))
    return FrameEstimator(DA3Network(network, run, device, origin), run.frame.steady)


def kind_of(config: DA3Config) -> DepthKind:
    """The kind of depth that a network gives."""
    return DepthKind.METRES if config.metric else DepthKind.RELATIVE_DEPTH


def licence_of(name: str) -> str:
    """The licence of a network's weights."""
    return APACHE if name in CONFIGS else "none: not published"


def spec_of(network: DA3, run: RunConfig, device: torch.device) -> EstimatorSpec:
    """The specification of a network with these settings on this type of device."""
    config, frame = network.config, run.frame
    shift = () if config.metric else ((SHIFT, repr(float(frame.shift))),)
    return EstimatorSpec(
        name=config.name,
        kind=kind_of(config),
        weights=weights_hash(network),
        precision=precision_of(config, run, device),
        input_size=run.input_size or config.input_size,
        licence=licence_of(config.name),
        settings=(
            ("algorithm", ALGORITHM),
            ("device", device.type),
            *shift,
            *((name, str(value)) for name, value in frame.chosen() if name != SHIFT),
        ),
    )
