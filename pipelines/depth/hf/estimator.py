"""A depth model of transformers as an estimator of single frames: `hf:OWNER/NAME`.

Its own processor resizes, and makes depth of the frame's size; frames go through in groups whose
size is fixed. The revision and the weights' hash are recorded.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from depthtok.config import digest
from depthtok.data import SHIFT, DepthClip, DepthKind, EstimatorSpec, FrameClip
from depthtok.errors import ConfigError, MissingPackage, SourceError, WeightsError
from pipelines.depth.hf.families import kind_of, require_packages
from pipelines.depth.hf.origin import origin_of
from pipelines.depth.hf.reference import Reference
from pipelines.depth.single_frames.config import FrameConfig
from pipelines.depth.single_frames.estimator import READERS, FrameEstimator, Inputs, finite
from pipelines.depth.vida.config import RunConfig
from pipelines.depth.vida.estimator import device_name
from pipelines.depth.vida.weights import weights_hash

ALGORITHM = "1"  # increased when the same model and settings would give different depth
ON_CPU, ON_GPU = 2, 16  # frames of a call
UNKNOWN_LICENCE = "unknown: see the model card"
CARD_BYTES = 1 << 20  # of a model card at most


@runtime_checkable
class HfConfig(Protocol):
    """A model's configuration."""

    @property
    def model_type(self) -> str: ...

    def to_dict(self) -> dict[str, object]: ...


@runtime_checkable
class Processor(Protocol):
    """What makes a model's input of images, and depth of their size of its output."""

    def __call__(
        self, images: list[np.ndarray], return_tensors: str, input_data_format: str
    ) -> Mapping[str, Tensor]: ...

    def to_dict(self) -> dict[str, object]: ...

    def post_process_depth_estimation(
        self, outputs: object, **sizes: object
    ) -> list[dict[str, Tensor]]: ...


@dataclass(frozen=True)
class Loaded:
    """A model with what belongs to it."""

    name: str
    config: HfConfig
    processor: Processor
    model: nn.Module
    licence: str = UNKNOWN_LICENCE


class HfNetwork:
    """A model on a device, as `FrameNetwork` asks for it."""

    def __init__(self, loaded: Loaded, run: RunConfig, device: torch.device) -> None:
        precision = _precision(loaded.name, run, device)
        self.frame, self._device, self._processor = run.frame, device, loaded.processor
        self._family = loaded.config.model_type
        self.spec = _spec(loaded, run.frame, device, precision)
        self.origin = origin_of(self.spec.name, Reference.of(loaded.name))
        self._dtype: torch.dtype = getattr(torch, precision)
        self._model = loaded.model.to(device=device, dtype=self._dtype).eval()
        self.readers = 0 if device.type == "cpu" else READERS
        self.group = ON_CPU if device.type == "cpu" else ON_GPU
        self.degraded = False

    @property
    def device(self) -> str:
        return device_name(self._device)

    def prepare(self, frames: UInt8[np.ndarray, "n H W 3"]) -> Inputs:
        """What the model's processor makes of the frames. Raises `SourceError` for frames of a size
        that it cannot take. (One or three rows it would take for channels.)"""
        try:
            return self._processor(
                images=list(frames), return_tensors="pt", input_data_format="channels_last"
            )["pixel_values"]
        except (ValueError, TypeError, ArithmeticError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise SourceError(
                f"the processor of {self.spec.name} takes no frames of {list(frames.shape[1:3])} "
                f"px: {reason}"
            ) from error

    @torch.inference_mode()
    def depth(self, inputs: Inputs, size: tuple[int, int], clip: FrameClip) -> DepthClip:
        """Depth at the frames' size, as the processor makes it; at least 0, where the bicubic
        resize went below."""
        assert isinstance(inputs, Tensor)
        missing = 0 if self._device.type == "cpu" else self.group - len(inputs)
        padded = torch.cat((inputs, inputs[-1:].expand(missing, -1, -1, -1)))
        padded = padded.to(device=self._device, dtype=self._dtype)
        sizes: dict[str, object] = {"target_sizes": [size] * len(padded)}
        outputs = self._model(pixel_values=padded)
        if self._family == "zoedepth":  # its best, as published: the mean with its mirror image
            flipped = self._model(pixel_values=padded.flip(-1))
            sizes |= {"source_sizes": [size] * len(padded), "outputs_flipped": flipped}
        outputs.predicted_depth = outputs.predicted_depth.float()
        results = self._processor.post_process_depth_estimation(outputs, **sizes)
        maps = [frame["predicted_depth"].reshape(size) for frame in results[: len(inputs)]]
        values = finite(torch.stack(maps).float().cpu().numpy())
        return DepthClip.of(np.maximum(values, 0), self.spec.kind, shift=self.frame.shift)


def load_estimator(
    name: str, weights: Path | None, run: RunConfig, device: torch.device
) -> FrameEstimator:
    """The model of that name, ready to use. Raises `ConfigError`, `WeightsError` where it cannot
    be had, `MissingPackage` without transformers."""
    reference = Reference.of(name)
    if weights is not None:
        raise ConfigError(
            f"the weights of {name} are those of its repository",
            remedy="leave --weights out, or name another directory: hf:DIRECTORY",
        )
    if run.input_size is not None:
        raise ConfigError(
            f"the input size of {name} is set by its own processor", remedy="leave input_size out"
        )
    config = _loaded("AutoConfig", reference)
    assert isinstance(config, HfConfig)
    kind_of(name, config.to_dict(), run.frame.kind)  # before anything large is fetched
    require_packages(str(config.model_type))
    pinned = Reference(reference.source, _revision(config) or reference.revision, reference.local)
    processor = _loaded("AutoImageProcessor", pinned)
    model = _loaded("AutoModelForDepthEstimation", pinned, dtype=torch.float32)
    assert isinstance(processor, Processor)
    assert isinstance(model, nn.Module)
    loaded = Loaded(name, config, processor, model, _licence(pinned))
    return FrameEstimator(HfNetwork(loaded, run, device), run.frame.steady)


def _loaded(kind: str, reference: Reference, **more: object) -> object:
    try:
        with quiet():
            import transformers
    except ImportError:
        raise MissingPackage(
            "models of the Hugging Face Hub need the package `transformers`",
            remedy="pip install 'depthtok[hf]'",
        ) from None
    try:
        with quiet():
            return getattr(transformers, kind).from_pretrained(
                reference.source, revision=reference.revision, **more
            )
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(
            f"{reference.source} cannot be loaded as a depth model: {first}",
            remedy="check the name and the network; elsewhere `hf download OWNER/NAME --local-dir "
            "DIRECTORY`, copied here, is used as hf:DIRECTORY",
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings and log lines of transformers about itself. For loading alone: what it
    turns off is of the whole process."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _precision(name: str, run: RunConfig, device: torch.device) -> str:
    if run.precision not in (None, "float32") and device.type == "cpu":
        raise ConfigError(
            f"{run.precision} is for GPUs: {name} runs in float32 on a CPU",
            remedy="leave precision at auto",
        )
    return run.precision or "float32"


def _spec(
    loaded: Loaded, frame: FrameConfig, device: torch.device, precision: str
) -> EstimatorSpec:
    name, config = loaded.name, loaded.config
    kind = kind_of(name, config.to_dict(), frame.kind)
    if frame.shift and kind is not DepthKind.RELATIVE_DEPTH:
        raise ConfigError(
            f"`shift` is of relative depth, and {name} gives {kind}", remedy="leave shift out"
        )
    described = {"model": config.to_dict(), "processor": loaded.processor.to_dict()}
    shift = ((SHIFT, repr(float(frame.shift))),) if kind is DepthKind.RELATIVE_DEPTH else ()
    reference = Reference.of(name)
    return EstimatorSpec(
        name=f"hf:{Path(reference.source).name}" if reference.local else f"hf:{reference.source}",
        kind=kind,
        weights=weights_hash(loaded.model),
        precision=precision,
        licence=loaded.licence,
        settings=(
            ("algorithm", ALGORITHM),
            ("device", device.type),
            ("family", config.model_type),
            ("revision", _revision(config) or "a directory"),
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


def _revision(config: HfConfig) -> str | None:
    return getattr(config, "_commit_hash", None)


def _licence(reference: Reference) -> str:
    """The licence that the model card states; where there is none to read, that it is unknown."""
    card = Path(reference.source) / "README.md"
    if not reference.local:
        try:
            from huggingface_hub import hf_hub_download

            path = hf_hub_download(reference.source, "README.md", revision=reference.revision)
            card = Path(path)
        except (ImportError, OSError, ValueError):
            return UNKNOWN_LICENCE
    if not card.is_file() or card.stat().st_size > CARD_BYTES:
        return UNKNOWN_LICENCE
    lines = card.read_text(errors="replace").splitlines()
    stated = (line.partition(":")[2].strip() for line in lines if line.startswith("license:"))
    return next(filter(None, stated), UNKNOWN_LICENCE)
