"""Depth models of transformers: from a repository of the Hub or a directory, at one commit, with
their own weights, random ones, or those of a file."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from torch import Tensor, nn

from depthtok.errors import MissingPackage, SourceError, WeightsError, WeightsNotHere
from pipelines.depth.here import may_fetch
from pipelines.depth.hf.families import kind_of, require_packages
from pipelines.depth.hf.origin import origin_of
from pipelines.depth.hf.reference import START, Reference
from pipelines.depth.origin import WeightsOrigin, by_card, metadata_of
from pipelines.depth.vida.weights import read_weights, weights_hash

UNKNOWN_LICENCE = "unknown: see the model card"
WEIGHTS = "model.safetensors"  # in a model's directory
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


@runtime_checkable
class Saved(Protocol):
    """A model that saves itself."""

    def save_pretrained(self, save_directory: str, *, max_shard_size: str) -> None: ...


@dataclass(frozen=True)
class Loaded:
    """A model with what belongs to it."""

    name: str
    config: HfConfig
    processor: Processor
    model: nn.Module
    licence: str = UNKNOWN_LICENCE
    origin: WeightsOrigin | None = None

    def inputs(self, frames: UInt8[np.ndarray, "n H W 3"]) -> Tensor:
        """What the processor makes of frames. Raises `SourceError` for frames of a size that it
        cannot take. (One or three rows it would take for channels.)"""
        try:
            return self.processor(
                images=list(frames), return_tensors="pt", input_data_format="channels_last"
            )["pixel_values"]
        except (ValueError, TypeError, ArithmeticError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            name, size = plain_name(Reference.of(self.name)), list(frames.shape[1:3])
            raise SourceError(
                f"the processor of {name} takes no frames of {size} px: {reason}"
            ) from error

    def depth(
        self, inputs: Tensor, size: tuple[int, int], *, flipped: bool = True
    ) -> Float[Tensor, "n H W"]:
        """Depth at the frames' size, as the processor makes it, with a gradient. `flipped`: the
        mean with the mirror image, for the family that is published so."""
        sizes: dict[str, object] = {"target_sizes": [size] * len(inputs)}
        outputs = self.model(pixel_values=inputs)
        if self.config.model_type == "zoedepth":
            sizes |= {"source_sizes": [size] * len(inputs)}
            if flipped:
                sizes |= {"outputs_flipped": self.model(pixel_values=inputs.flip(-1))}
        outputs.predicted_depth = outputs.predicted_depth.float()
        results = self.processor.post_process_depth_estimation(outputs, **sizes)
        return torch.stack([frame["predicted_depth"].reshape(size) for frame in results]).float()


@dataclass(frozen=True)
class Source:
    """A model's repository or directory at one commit, before its weights are fetched."""

    name: str
    reference: Reference
    config: HfConfig
    kind: str  # what was stated of its depth

    def model(self) -> Loaded:
        """With its own weights. Raises `WeightsError`."""
        model = _loaded("AutoModelForDepthEstimation", self.reference, dtype=torch.float32)
        return self._with(model, origin_of(plain_name(self.reference), self.reference))

    def fresh(self) -> Loaded:
        """With random weights."""
        automatic = _transformers().AutoModelForDepthEstimation
        with quiet():
            return self._with(automatic.from_config(self.config).float(), WeightsOrigin())

    def model_with(self, weights: Path) -> Loaded:
        """With the weights of a file, float32, by the model's own names. Raises `WeightsError`."""
        name = plain_name(self.reference)
        if not weights.is_file():
            raise WeightsError(
                f"there is no file of weights {weights}",
                remedy=f"give a file that `finetune-depth --estimator {name}` wrote; a directory "
                "with a model is an estimator itself: hf:DIRECTORY",
            )
        said = metadata_of(weights)
        self._require(said, weights, name)
        loaded = self._with(self._model_of(weights, name), WeightsOrigin((name,), "its metadata"))
        if said.get("network"):
            return loaded
        return replace(loaded, origin=by_card(weights, lambda: weights_hash(loaded.model), (name,)))

    def _require(self, said: Mapping[str, str], weights: Path, name: str) -> None:
        """Raises `WeightsError` where a file says that it is of another repository of the Hub, or
        of another kind of depth. A directory may have any name."""
        network, kind = said.get("network") or name, said.get("kind", "")
        of_directory = network.startswith(START) and ("/" not in network or "/" not in name)
        if network != name and not of_directory:
            raise WeightsError(
                f"{weights} holds weights of {network} (by its metadata), not of {name}",
                remedy=f"give --estimator {network}, or the weights of {name}",
            )
        kind_of_model = kind_of(self.name, self.config.to_dict(), self.kind)
        if kind and kind != kind_of_model:
            raise WeightsError(
                f"{weights} was taught to give {kind} (by its metadata), {name} gives "
                f"{kind_of_model}",
                remedy="give the model that it started from, with the same --set kind=...",
            )

    def _model_of(self, weights: Path, name: str) -> nn.Module:
        """The library's own loading, which knows published names of tensors, of a directory with
        the file and the configuration. Raises `WeightsError` for a mismatch."""
        read_weights(weights)  # says what is wrong with a file that is none
        automatic = _transformers().AutoModelForDepthEstimation
        try:
            with TemporaryDirectory() as folder, quiet():
                Path(folder, WEIGHTS).symlink_to(weights.resolve())
                Path(folder, "config.json").write_text(json.dumps(self.config.to_dict()))
                model, differences = automatic.from_pretrained(
                    folder, dtype=torch.float32, output_loading_info=True
                )
        except (OSError, ValueError, RuntimeError) as error:
            faults = [next(iter(str(error).splitlines()), type(error).__name__)]
        else:
            faults = [f"missing {key}" for key in sorted(differences["missing_keys"])]
            faults += [f"unknown {key}" for key in sorted(differences["unexpected_keys"])]
        if faults:
            rest = f"; and {len(faults) - 3} more" if faults[3:] else ""
            raise WeightsError(
                f"{weights} does not match {name}: {'; '.join(faults[:3])}{rest}",
                remedy=f"give a .safetensors file that `finetune-depth --estimator {name}` wrote; "
                "for other weights of transformers, their directory: hf:DIRECTORY",
            )
        return model

    def _with(self, model: object, origin: WeightsOrigin | None) -> Loaded:
        processor = _loaded("AutoImageProcessor", self.reference)
        assert isinstance(processor, Processor)
        assert isinstance(model, nn.Module)
        licence = _licence(self.reference)
        return Loaded(self.name, self.config, processor, model, licence, origin)


def published_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a model by the names that published files have, as the library saves it."""
    assert isinstance(model, Saved)
    with TemporaryDirectory() as folder, quiet():
        model.save_pretrained(folder, max_shard_size="1TB")
        return read_weights(Path(folder, WEIGHTS))


def plain_name(reference: Reference) -> str:
    """What a model is called in records: without a revision, or where a directory lies."""
    return f"hf:{Path(reference.source).name if reference.local else reference.source}"


def open_source(name: str, kind: str) -> Source:
    """The source of that name; `kind` is what was stated of its depth. Raises `ConfigError`,
    `WeightsError` where it cannot be had, `MissingPackage` without transformers."""
    reference = Reference.of(name)
    config = _loaded("AutoConfig", reference)
    assert isinstance(config, HfConfig)
    kind_of(name, config.to_dict(), kind)  # before anything large is fetched
    require_packages(str(config.model_type))
    revision = revision_of(config) or reference.revision
    return Source(name, replace(reference, revision=revision), config, kind)


def _transformers() -> ModuleType:
    try:
        with quiet():
            import transformers
    except ImportError:
        raise MissingPackage(
            "models of the Hugging Face Hub need the package `transformers`",
            remedy="pip install 'depthtok[hf]'",
        ) from None
    return transformers


def _loaded(kind: str, reference: Reference, **more: object) -> object:
    transformers = _transformers()
    try:
        with quiet():
            return getattr(transformers, kind).from_pretrained(
                reference.source,
                revision=reference.revision,
                local_files_only=not may_fetch(),
                **more,
            )
    except (OSError, ValueError, KeyError, SafetensorError, UnpicklingError) as error:
        if isinstance(error, OSError) and not (may_fetch() or reference.local):
            version = f" --revision {reference.revision}" if reference.revision else ""
            raise WeightsNotHere(
                f"no weights of {reference.source} here",
                remedy=f"`hf download {reference.source}{version}` fetches them",
            ) from error
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


def revision_of(config: HfConfig) -> str | None:
    return getattr(config, "_commit_hash", None)


def _licence(reference: Reference) -> str:
    """The licence that the model card states; where there is none to read, that it is unknown."""
    card = Path(reference.source) / "README.md"
    if not reference.local:
        try:
            from huggingface_hub import hf_hub_download

            path = hf_hub_download(
                reference.source,
                "README.md",
                revision=reference.revision,
                local_files_only=not may_fetch(),
            )
            card = Path(path)
        except (ImportError, OSError, ValueError):
            return UNKNOWN_LICENCE
    if not card.is_file() or card.stat().st_size > CARD_BYTES:
        return UNKNOWN_LICENCE
    lines = card.read_text(errors="replace").splitlines()
    stated = (line.partition(":")[2].strip() for line in lines if line.startswith("license:"))
    return next(filter(None, stated), UNKNOWN_LICENCE)
