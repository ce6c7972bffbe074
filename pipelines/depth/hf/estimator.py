"""A depth model of transformers as an estimator of single frames: `hf:OWNER/NAME`.

Its own processor resizes, and makes depth of the frame's size; frames go through in groups whose
size is fixed. The revision and the weights' hash are recorded.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from depthtok.config import digest
from depthtok.data import SHIFT, DepthClip, DepthKind, EstimatorSpec, FrameClip
from depthtok.errors import ConfigError
from pipelines.depth.hf.families import kind_of
from pipelines.depth.hf.models import Loaded, open_source, plain_name, revision_of
from pipelines.depth.hf.reference import Reference
from pipelines.depth.single_frames.config import FrameConfig
from pipelines.depth.single_frames.estimator import READERS, FrameEstimator, Inputs, finite
from pipelines.depth.vida.config import RunConfig
from pipelines.depth.vida.estimator import device_name
from pipelines.depth.vida.weights import weights_hash
from vqvae.model.search import exact_float32

ALGORITHM, ALGORITHM_CUDA = "1", "2"  # increased when the same settings would give other depth
ON_CPU, ON_GPU = 2, 16  # frames of a call


class HfNetwork:
    """A model on a device, as `FrameNetwork` asks for it; moved there with the first frames: the
    driver of workers, which need not have that device, asks for the specification alone."""

    def __init__(self, loaded: Loaded, run: RunConfig, device: torch.device) -> None:
        precision = _precision(loaded.name, run, device)
        self.frame, self._device, self.origin = run.frame, device, loaded.origin
        self.spec = spec_of(loaded, run.frame, device, precision)
        self._dtype: torch.dtype = getattr(torch, precision)
        self._loaded, self._placed = loaded, False
        self.readers = 0 if device.type == "cpu" else READERS
        self.group = ON_CPU if device.type == "cpu" else ON_GPU
        self.degraded = False

    @property
    def device(self) -> str:
        return device_name(self._device)

    def prepare(self, frames: UInt8[np.ndarray, "n H W 3"]) -> Inputs:
        """What the model's processor makes of the frames. Raises `SourceError`."""
        return self._loaded.inputs(frames)

    @torch.inference_mode()
    def depth(self, inputs: Inputs, size: tuple[int, int], clip: FrameClip) -> DepthClip:
        """Depth at the frames' size; at least 0, where the bicubic resize went below."""
        assert isinstance(inputs, Tensor)
        self._place()
        missing = 0 if self._device.type == "cpu" else self.group - len(inputs)
        padded = torch.cat((inputs, inputs[-1:].expand(missing, -1, -1, -1)))
        padded = padded.to(device=self._device, dtype=self._dtype)
        with exact_float32(self._device) if self._device.type == "cuda" else nullcontext():
            maps = self._loaded.depth(padded, size)[: len(inputs)]
        values = finite(maps.cpu().numpy())
        return DepthClip.of(np.maximum(values, 0), self.spec.kind, shift=self.frame.shift)

    def _place(self) -> None:
        if not self._placed:
            model = self._loaded.model.to(device=self._device, dtype=self._dtype).eval()
            self._loaded, self._placed = replace(self._loaded, model=model), True


def load_estimator(
    name: str, weights: Path | None, run: RunConfig, device: torch.device
) -> FrameEstimator:
    """The model of that name, ready to use; `weights` are its repository's, or a file that
    `finetune-depth` wrote. Raises `ConfigError`, `WeightsError` where it cannot be had,
    `MissingPackage` without transformers."""
    if run.input_size is not None:
        raise ConfigError(
            f"the input size of {name} is set by its own processor", remedy="leave input_size out"
        )
    source = open_source(name, run.frame.kind)
    loaded = source.model() if weights is None else source.model_with(weights)
    return FrameEstimator(HfNetwork(loaded, run, device), run.frame.steady)


def _precision(name: str, run: RunConfig, device: torch.device) -> str:
    if run.precision not in (None, "float32") and device.type == "cpu":
        raise ConfigError(
            f"{run.precision} is for GPUs: {name} runs in float32 on a CPU",
            remedy="leave precision at auto",
        )
    return run.precision or "float32"


def spec_of(
    loaded: Loaded, frame: FrameConfig, device: torch.device, precision: str
) -> EstimatorSpec:
    """The specification of a model with these settings on this type of device. Raises `ConfigError`
    for a kind or a shift that does not fit."""
    name, config = loaded.name, loaded.config
    kind = kind_of(name, config.to_dict(), frame.kind)
    if frame.shift and kind is not DepthKind.RELATIVE_DEPTH:
        raise ConfigError(
            f"`shift` is of relative depth, and {name} gives {kind}", remedy="leave shift out"
        )
    described = {"model": config.to_dict(), "processor": loaded.processor.to_dict()}
    shift = ((SHIFT, repr(float(frame.shift))),) if kind is DepthKind.RELATIVE_DEPTH else ()
    return EstimatorSpec(
        name=plain_name(Reference.of(name)),
        kind=kind,
        weights=weights_hash(loaded.model),
        precision=precision,
        licence=loaded.licence,
        settings=(
            ("algorithm", ALGORITHM_CUDA if device.type == "cuda" else ALGORITHM),
            ("device", device.type),
            ("family", config.model_type),
            ("revision", revision_of(config) or "a directory"),
            ("configuration", digest({key: _settled(values) for key, values in described.items()})),
            *shift,
            *((key, str(value)) for key, value in frame.chosen() if key not in (SHIFT, "kind")),
        ),
    )


def _settled(values: dict[str, object]) -> dict[str, object]:
    """A configuration without what changes from one version of the library to the next, and where
    it was read from."""
    passing = ("transformers_version", "dtype", "torch_dtype", "processor_class")
    plain = json.loads(json.dumps(values, default=str))
    return {k: v for k, v in plain.items() if not k.startswith("_") and k not in passing}
