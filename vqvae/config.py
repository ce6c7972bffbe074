"""The tokeniser's settings: what is trained (`TokeniserConfig`) and how (`TrainOptions`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from depthtok.config import from_mapping, load_toml, merged, nested, to_json
from depthtok.presets import file_of, names
from depthtok.required import fulfilled, one_of

PRESETS = Path(__file__).parent / "presets"
QUANTIZERS = ("ema", "gradient", "simvq", "fsq", "none")


@dataclass(frozen=True)
class NetworkConfig:
    """Encoder and decoder: norm-free convolutions from `size` to `grid` and back."""

    size: Annotated[int, "height and width of the depth image, px"] = 256
    grid: Annotated[int, "height and width of the code grid, cells"] = 16
    dim: Annotated[int, "channels of a latent and of a code vector"] = 64
    width: Annotated[int, "the encoder's channels at the grid; halved at each finer stage"] = 128
    stem: Annotated[int, "stride of the first convolution, and of the last pixel shuffle"] = 4
    encoder_blocks: Annotated[
        int, "residual blocks of the encoder, on each cell separately (1x1)"
    ] = 2
    decoder_width: Annotated[
        int, "the decoder's channels at the grid; halved at each finer stage"
    ] = 128
    decoder_blocks: Annotated[int, "residual blocks of the decoder, at the grid"] = 2
    latent_norm: Annotated[bool, "LayerNorm without affine over each cell's latent"] = True

    def __post_init__(self) -> None:
        factor = self.size // max(self.grid, 1)
        fulfilled(
            self.grid > 0 and factor * self.grid == self.size and factor & (factor - 1) == 0,
            f"size {self.size} divided by grid {self.grid} is not a power of two",
            "pick size 128, 256 or 512 and grid 8, 16 or 32",
        )
        fulfilled(
            1 < self.stem <= factor and self.stem & (self.stem - 1) == 0,
            f"stem {self.stem} does not fit a downsampling factor of {factor}",
            f"pick a power of two from 2 to {factor}",
        )
        for name in ("dim", "width", "decoder_width"):
            fulfilled(getattr(self, name) > 0, f"{name} must be positive", "see the presets")
        for name in ("encoder_blocks", "decoder_blocks"):
            fulfilled(getattr(self, name) >= 0, f"{name} is negative", "2 is the default")

    @property
    def cell(self) -> int:
        """The side of a cell, px."""
        return self.size // self.grid


@dataclass(frozen=True)
class QuantizerConfig:
    """How latents are quantised to one of `codes` vectors, and how these vectors are learned.
    Raises `ConfigError` for what cannot be."""

    kind: Annotated[str, "ema, gradient (the paper's), simvq, fsq, or none (continuous)"] = "ema"
    codes: Annotated[int, "vectors in the codebook; at most 256, so that a code is one byte"] = 256
    beta: Annotated[float, "weight of the commitment loss"] = 0.25
    decay: Annotated[float, "ema: decay of the running sums per step"] = 0.99
    warmup: Annotated[
        int, "steps without quantisation before k-means initialisation; at least 5 % of all steps"
    ] = 80
    kmeans: Annotated[int, "k-means iterations; 0 starts from random vectors"] = 10
    reseed: Annotated[float, "ema: re-seed codes used less than this share of the mean; 0: off"] = (
        0.1
    )
    estimator: Annotated[str, "gradient through the quantiser: straight or rotation"] = "straight"
    cosine: Annotated[bool, "compare directions only"] = False
    levels: Annotated[tuple[int, ...], "fsq: levels of each dimension"] = (8, 6, 5)

    def __post_init__(self) -> None:
        one_of("quantizer.kind", self.kind, QUANTIZERS)
        fulfilled(
            1 < self.codes <= 256, f"codes {self.codes} is not in 2..256", "a code is one byte"
        )
        one_of("quantizer.estimator", self.estimator, ("straight", "rotation"))
        fulfilled(0 < self.decay < 1, f"decay {self.decay} is not in (0, 1)", "0.99 is the default")
        for name in ("warmup", "kmeans", "reseed", "beta"):
            value = getattr(self, name)
            fulfilled(value >= 0, f"{name} {value} is negative", "0 switches it off")
        fulfilled(
            min(self.levels, default=0) >= 2,
            f"levels {self.levels}: each dimension needs at least two",
            "(8, 6, 5) is the default",
        )


@dataclass(frozen=True)
class TrainingConfig:
    """Data, loss and optimiser. A step sees `batch` crops, on all ranks together."""

    steps: Annotated[int, "optimiser steps"] = 1600
    batch: Annotated[int, "crops per step, over all ranks"] = 24
    crop: Annotated[int, "side of a training crop, px (a multiple of the cell)"] = 128
    lr: Annotated[float, "peak learning rate"] = 2e-3
    lr_warmup: Annotated[int, "steps of linear warm-up of the learning rate"] = 30
    weight_decay: Annotated[float, "AdamW's weight decay"] = 1e-4
    gradient_weight: Annotated[float, "weight of the loss on differences between neighbours"] = 1.0
    flip: Annotated[bool, "mirror half of the crops left to right"] = True
    paste: Annotated[int, "parts of another crop pasted in front of each crop"] = 2
    paste_until: Annotated[float, "share of the steps that paste; the rest use plain data"] = 0.6
    held_out: Annotated[float, "share of the episodes held out for evaluation"] = 0.1
    judged: Annotated[int, "most held-out clips to evaluate on, evenly spread; 0: all"] = 500
    frames: Annotated[int, "most frames used for training, evenly spread over clips; 0: all"] = (
        50_000
    )
    seed: Annotated[int, "random seed of weights, crops and re-seeding"] = 0

    def __post_init__(self) -> None:
        fulfilled(self.steps > 0, f"steps {self.steps} must be positive", "400 is a short training")
        fulfilled(self.batch > 0, f"batch {self.batch} must be positive", "24 is the default")
        fulfilled(
            0 < self.lr < math.inf,
            f"lr {self.lr} is not positive and finite",
            "0.002 is the default",
        )
        for name in ("lr_warmup", "weight_decay", "gradient_weight", "judged", "frames", "seed"):
            value = getattr(self, name)
            fulfilled(
                0 <= value < math.inf, f"{name} {value} is negative or not finite", "see --help"
            )
        fulfilled(self.paste >= 0, f"paste {self.paste} is negative", "0 leaves it out")
        fulfilled(
            0 <= self.paste_until <= 1,
            f"paste_until {self.paste_until} is not a share in [0, 1]",
            "1 pastes to the end",
        )
        fulfilled(
            0 <= self.held_out < 1,
            f"held_out {self.held_out} is not a share in [0, 1)",
            "0.1 holds out a tenth of the episodes",
        )


@dataclass(frozen=True)
class TokeniserConfig:
    """Everything that determines the result of a training run."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    normalisation: Annotated[str, "clip_quantile, per_frame, dataset or metric"] = "clip_quantile"
    metric_range: Annotated[tuple[float, float], "metric: disparity that becomes 0 and 1, 1/m"] = (
        0.25,
        5.0,
    )

    def __post_init__(self) -> None:
        low, high = self.metric_range
        fulfilled(
            0 < low < high, f"metric_range {low} to {high} is not a range", "give the far end first"
        )
        cell, crop = self.network.cell, self.training.crop
        fulfilled(
            0 < crop <= self.network.size and crop % cell == 0,
            f"crop {crop} does not fit size {self.network.size} and cell {cell}",
            f"pick a multiple of {cell} up to {self.network.size}: "
            f"--set training.crop={max(self.network.size // cell, 1) * cell}",
        )
        fulfilled(
            self.training.steps > self.warmup,
            f"{self.training.steps} steps end before the warm-up of {self.warmup}",
            f"train for longer, or give --set quantizer.warmup={max(self.training.steps // 2, 1)}",
        )

    @property
    def warmup(self) -> int:
        """Steps without quantisation; 0 if the warm-up is off or there is no quantiser."""
        if self.quantizer.kind == "none" or not self.quantizer.warmup:
            return 0
        return max(self.quantizer.warmup, self.training.steps // 20)

    def to_json(self) -> dict:
        """Plain values, the inverse of `from_json`."""
        return to_json(self)

    @classmethod
    def from_json(cls, data: dict) -> TokeniserConfig:
        """A config from nested tables. Raises `ConfigError` for unknown settings."""
        return from_mapping(cls, data, "settings")

    @classmethod
    def preset(cls, name: str, changes: Mapping[str, Any] | None = None) -> TokeniserConfig:
        """A preset by name, or a TOML file by path, with changes by dotted names."""
        preset = load_toml(file_of(PRESETS, name))
        return from_mapping(cls, merged(preset, nested(changes or {})), name)

    def continuous(self) -> TokeniserConfig:
        """The same without a quantiser: the upper bound for the others."""
        return replace(self, quantizer=replace(self.quantizer, kind="none"))

    def with_training(self, **changes) -> TokeniserConfig:
        """The same with some training settings changed."""
        return replace(self, training=replace(self.training, **changes))


def presets() -> list[str]:
    """The names of the shipped presets."""
    return names(PRESETS)


@dataclass(frozen=True)
class TrainOptions:
    """How a training run is executed. Nothing here changes its result on one kind of device."""

    device: Annotated[str, "cpu or cuda"] = "cpu"
    work: Annotated[str, "folder of the frame cache and the checkpoint; default: beside OUT"] = ""
    checkpoint_every: Annotated[int, "steps between checkpoints"] = 200
    resume: Annotated[bool, "resume from a matching checkpoint"] = True
    keep_work: Annotated[bool, "keep cache and checkpoint after the codebook is written"] = False
