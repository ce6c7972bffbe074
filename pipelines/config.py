"""Settings of what the stages produce. Every field is hashed into the store that it affects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from depthtok.disk.bounds import too_large
from depthtok.required import require
from pipelines.depth.da3.config import CONFIGS as DA3_CONFIGS
from pipelines.depth.gem.config import GEM_CONFIGS, poses
from pipelines.depth.single_frames.config import KINDS, STEADY, FrameConfig
from pipelines.depth.vida.config import CONFIGS

ESTIMATORS = ("dataset", *CONFIGS, *DA3_CONFIGS, *GEM_CONFIGS)
"""Every estimator by name: the data set's own depth, Video-Depth-Anything, Depth Anything 3
and GemDepth by size. There are `hf:OWNER/NAME` and those of other packages, too."""


def require_distinct(field: str, names: Sequence[str]) -> None:
    """Raises `ConfigError` for a name that is given twice."""
    twice = next((name for name in names if names.count(name) > 1), None)
    require(twice is None, field, ", ".join(names), f"give {twice!r} once")


@dataclass(frozen=True)
class ConvertConfig:
    """How an RLDS directory becomes an EpisodeStore."""

    split: Annotated[tuple[str, ...], "splits to read; all by default"] = ()
    schema: Annotated[str | None, "a shipped schema's name, or your own TOML file"] = None
    copy_images: Annotated[bool, "pack the image bytes into the store (slow or remote disks)"] = (
        False
    )

    def __post_init__(self) -> None:
        require_distinct("split", self.split)


@dataclass(frozen=True)
class AnnotateConfig:
    """Which depth a DepthStore holds."""

    estimator: Annotated[
        str,
        f"depth estimator: {', '.join(ESTIMATORS)}, hf:OWNER/NAME, or one of another package",
    ] = "vits"
    camera: Annotated[tuple[str, ...], "cameras to annotate; all by default"] = ()
    size: Annotated[int, "side of the stored depth in pixels; 0 keeps the frame size"] = 256
    input_size: Annotated[
        int,
        "shorter side (of Depth Anything 3 the longer) of the network's input, in pixels; 0 is the "
        "network's default",
    ] = 0
    precision: Annotated[
        str,
        "float32, float16 or bfloat16; auto is float32, but float16 on a GPU for networks that see "
        "windows (Video-Depth-Anything, GemDepth)",
    ] = "auto"
    compile: Annotated[bool, "use torch.compile: slow to start, low bits differ"] = False
    graphs: Annotated[bool, "use CUDA graphs: fewer launches, the same bytes"] = False
    attention: Annotated[
        str, "over time, in half precision: fused, explicit or kernel (Triton)"
    ] = "fused"
    kind: Annotated[
        str, f"of the depth, where the estimator does not say it: {', '.join(KINDS)}"
    ] = ""
    shift: Annotated[float, "of relative depth z: its disparity is 1 / (z + shift)"] = 0.0
    focal_px: Annotated[
        float, "focal length in pixels of the frame, for metres; 0: the data's intrinsics"
    ] = 0.0
    sky: Annotated[bool, "leave the sky out, where the network tells it"] = False
    steady: Annotated[
        str, f"align scale and shift over a clip, of single-frame estimators: {', '.join(STEADY)}"
    ] = "off"
    pose: Annotated[str, "of gemdepth: on embeds the camera poses that it predicts; or off"] = "on"

    def __post_init__(self) -> None:
        require_distinct("camera", self.camera)
        poses(self.pose, self.estimator)
        require(self.size >= 0, "size", self.size, "give 0, or a number of pixels")
        size = self.input_size
        fits = size >= 0 and too_large(size, size) is None
        require(fits, "input_size", size, "give 0, or pixels: 518, or some more")
        _ = self.frame  # says what is wrong with them
        single = ("kind", "shift", "focal_px", "sky", "steady")
        networks = ("input_size", "precision", "compile", "graphs", "attention", *single)
        for name in networks if self.estimator == "dataset" else ():
            value, default = getattr(self, name), getattr(AnnotateConfig, name)
            remedy = "leave it out: the estimator 'dataset' runs no network"
            require(value == default, name, value, remedy)

    @property
    def frame(self) -> FrameConfig:
        """What is asked of an estimator of single frames."""
        return FrameConfig(self.kind, self.shift, self.focal_px, self.sky, self.steady)


@dataclass(frozen=True)
class TokenizeConfig:
    """How depth is encoded to codes."""

    camera: Annotated[
        tuple[str, ...], "cameras to tokenize; all of the depth store's by default"
    ] = ()
    sticky: Annotated[
        float, "keep a cell's last code while its distance is within 1 + this of the best; 0 is off"
    ] = 0.0

    def __post_init__(self) -> None:
        require_distinct("camera", self.camera)
        require(self.sticky >= 0, "sticky", self.sticky, "give 0 (off) or more, such as 0.3")
