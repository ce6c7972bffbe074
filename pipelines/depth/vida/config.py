"""The sizes of Video-Depth-Anything, and how it is run. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from depthtok.disk.bounds import too_large
from depthtok.errors import ConfigError
from depthtok.required import fulfilled, one_of, require
from pipelines.depth.single_frames.config import FrameConfig

PATCH = 14  # px, side of an encoder patch
WINDOW = 32  # frames per window of the temporal attention


@dataclass(frozen=True)
class ViDAConfig:
    """One network: a DINOv2 encoder, a DPT head, four temporal modules.

    `taps` are the encoder blocks (from 0) whose output feeds the head; `channels` the widths of
    the four pyramid levels, fine to coarse; `features` the width for their fusion.
    """

    name: str
    dim: int
    depth: int
    heads: int
    taps: tuple[int, int, int, int]
    features: int
    channels: tuple[int, int, int, int]
    table: int = 37  # patches, side of the learned position table
    input_size: int = 518  # px, the shorter side of the input
    metric: bool = False  # metres (larger is farther) instead of disparity (larger is nearer)

    @property
    def variant(self) -> str:
        """The network in words, with what of it can be chosen."""
        return self.name

    @property
    def recorded(self) -> dict[str, str]:
        """What of it can be chosen, for the record of what depth was made with."""
        return {}


_RELATIVE = {
    config.name: config
    for config in (
        ViDAConfig("vits", 384, 12, 6, (2, 5, 8, 11), 64, (48, 96, 192, 384)),
        ViDAConfig("vitb", 768, 12, 12, (2, 5, 8, 11), 128, (96, 192, 384, 768)),
        ViDAConfig("vitl", 1024, 24, 16, (4, 11, 17, 23), 256, (256, 512, 1024, 1024)),
        ViDAConfig("tiny", 128, 6, 4, (1, 2, 4, 5), 32, (16, 32, 64, 64), 10, 140),
    )
}
CONFIGS: dict[str, ViDAConfig] = _RELATIVE | {
    f"metric-{name}": replace(config, name=f"metric-{name}", metric=True)
    for name, config in _RELATIVE.items()
}
"""Every network by name: vits, vitb, vitl, tiny, and metric-vits, ..."""

READERS = 4  # decoding threads per GPU
PRECISIONS = ("float32", "float16", "bfloat16")
CHOICES = ("compile", "graphs")  # they change low bits; recorded where on
ATTENTIONS = ("fused", "explicit", "kernel")
"""Attention over time: PyTorch's fused kernel; products and softmax as operators of their own,
which torch.compile joins; or `temporal_kernel.py`. Recorded where it is not fused."""


@dataclass(frozen=True)
class RunConfig:
    """How a network is run. `windows`, `readers` and `settled` change no byte of the
    output; all else does, and is recorded with it.

    By default `input_size` is the network's own, and `precision` float16 on a GPU (as upstream) and
    float32 on a CPU. `windows` is the number of windows between two waits; `readers` is the
    number of threads that decode ahead, so that a GPU does not wait (0: frames are read on demand,
    as on a CPU, where reading ahead gains nothing). Raises `ConfigError` for what no network can
    run with.
    """

    input_size: int | None = None  # px
    precision: str | None = None
    windows: int | None = None  # per batch; None: 16, one on a CPU
    readers: int | None = None
    compile: bool = False
    graphs: bool = False  # CUDA graphs
    attention: str = "fused"  # one of `ATTENTIONS`
    pose: bool = True  # of GemDepth: with the camera poses that it predicts
    settled: bool = False  # a store is made so: where that is impossible, raise `ConfigError`
    frame: FrameConfig = field(default_factory=FrameConfig)  # for estimators of single frames

    def __post_init__(self) -> None:
        if self.precision is not None:
            one_of("precision", self.precision, PRECISIONS)
        one_of("attention", self.attention, ATTENTIONS)
        fulfilled(
            self.input_size is None or self.input_size >= PATCH,
            f"input_size {self.input_size} px is smaller than one patch of {PATCH} px",
            "use 518 px for the official weights, 140 px for the tiny network",
        )
        size = self.input_size or 0
        require(too_large(size, size) is None, "input_size", size, "give 518 px, or some more")
        fulfilled(
            self.windows is None or self.windows >= 1,
            f"windows={self.windows}: a batch needs at least one",
            "leave it out",
        )

    def like(self, made_with: Mapping[str, str]) -> RunConfig:
        """The same with the choices that a store was made with: its estimator's settings."""
        compile, graphs = (made_with.get(name) == "yes" for name in CHOICES)
        attention = made_with.get("attention", "fused")
        return replace(self, settled=True, compile=compile, graphs=graphs, attention=attention)

    def resolved(self, config: ViDAConfig, device: str) -> ResolvedConfig:
        """With all defaults filled in, for a network on a type of device ("cpu", "cuda"). Raises
        `ConfigError` for what that device does not do."""
        precision = self.precision or ("float32" if device == "cpu" else "float16")
        if device == "cpu" and precision != "float32":
            raise ConfigError(
                f"{precision} is for GPUs: on a CPU it is slower, and differs from the reference",
                remedy="use precision float32 with device cpu",
            )
        if device != "cuda" and self.graphs:
            raise ConfigError(
                f"CUDA graphs cannot be had on device {device}", remedy="leave --graphs out"
            )
        if self.attention != "fused" and precision == "float32":
            raise ConfigError(
                f"attention {self.attention!r} is for half precision, this is float32",
                remedy="leave it out, or use --set precision=float16 on a GPU",
            )
        if self.attention == "kernel" and device != "cuda":
            raise ConfigError(
                f"the kernel for attention over time cannot be had on device {device}",
                remedy="leave it out",
            )
        readers = self.readers if self.readers is not None else (0 if device == "cpu" else READERS)
        size = self.input_size or config.input_size
        filled = {"precision": precision, "input_size": size, "readers": readers}
        return ResolvedConfig(**(vars(self) | filled))


@dataclass(frozen=True, kw_only=True)
class ResolvedConfig(RunConfig):
    """How a network is run, with no default left to fill in."""

    input_size: int
    precision: str
    readers: int
