"""What the stages make. Every field is hashed into the store that it shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from depthtok.config import require
from pipelines.vida.config import CONFIGS

ESTIMATORS = ("dataset", *CONFIGS)
"""Every estimator by name: the data set's own depth, and Video-Depth-Anything by size."""


@dataclass(frozen=True)
class ConvertConfig:
    """How an RLDS directory becomes an EpisodeStore."""

    split: Annotated[tuple[str, ...], "splits to read; all where none is named"] = ()
    schema: Annotated[str | None, "a shipped schema's name, or your own TOML file"] = None
    copy_images: Annotated[bool, "pack the image bytes into the store (slow or remote disks)"] = (
        False
    )


@dataclass(frozen=True)
class AnnotateConfig:
    """Which depth a DepthStore holds."""

    estimator: Annotated[str, f"who says the depth: {', '.join(ESTIMATORS)}"] = "vits"
    camera: Annotated[tuple[str, ...], "cameras to annotate; all where none is named"] = ()
    size: Annotated[int, "side of the stored depth in pixels; 0 keeps the frames' own size"] = 256
    input_size: Annotated[
        int, "shorter side of what the network sees, in pixels; 0 is the network's own"
    ] = 0
    precision: Annotated[
        str, "float32, float16 or bfloat16; auto is float16 on a GPU and float32 on a CPU"
    ] = "auto"
    compile: Annotated[bool, "through torch.compile: slow to start, other low bits"] = False

    def __post_init__(self) -> None:
        require(self.size >= 0, "size", self.size, "give 0, or a number of pixels")
        require(self.input_size >= 0, "input_size", self.input_size, "give 0, or pixels")


@dataclass(frozen=True)
class TokenizeConfig:
    """How codes are chosen."""

    camera: Annotated[
        tuple[str, ...], "cameras to tokenize; all of the depth store's by default"
    ] = ()
    sticky: Annotated[
        float, "keep a cell's last code while its distance is within 1 + this of the best; 0 is off"
    ] = 0.0

    def __post_init__(self) -> None:
        require(self.sticky >= 0, "sticky", self.sticky, "give 0 (off) or more, such as 0.3")
