"""The sizes of GemDepth. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass, replace

from depthtok.errors import ConfigError, did_you_mean
from depthtok.required import require
from pipelines.depth.vida.config import CONFIGS, ViDAConfig

REGISTERS = 4  # register tokens of a frame, beside its camera token
SPECIAL = 1 + REGISTERS
WITH_POSES, WITHOUT_POSES = "on", "off"
POSES = (WITH_POSES, WITHOUT_POSES)


@dataclass(frozen=True)
class GemConfig(ViDAConfig):
    """One network: that of Video-Depth-Anything, with two stages before its coarsest level.

    `pose`: the camera poses that it predicts are embedded; else every frame counts as taken from
    one place, and what predicts poses is not loaded. The published network drew this at random in
    every window; here it is a setting, and recorded.
    """

    pose: bool = True

    @property
    def variant(self) -> str:
        return f"{self.name}, pose {self.recorded['pose']}"

    @property
    def recorded(self) -> dict[str, str]:
        return {"pose": WITH_POSES if self.pose else WITHOUT_POSES}


def _gem(name: str, network: str, input_size: int) -> GemConfig:
    sizes = vars(CONFIGS[network]) | {"name": name, "input_size": input_size}
    return GemConfig(**sizes)


GEM_CONFIGS: dict[str, GemConfig] = {
    config.name: config
    for config in (
        _gem("gemdepth", "vitl", 518),
        _gem("gemdepth-tiny", "tiny", 140),
    )
}
"""Every network by name. Only the first has published weights; the other is for training."""


def gem_config(name: str, *, pose: bool = True) -> GemConfig:
    """The network of that name. Raises `ConfigError` for an unknown one."""
    if name not in GEM_CONFIGS:
        raise ConfigError(
            f"there is no GemDepth network {name!r}", remedy=did_you_mean(name, list(GEM_CONFIGS))
        )
    return replace(GEM_CONFIGS[name], pose=pose)


def poses(choice: str, estimator: str) -> bool:
    """Whether poses are embedded, from the setting `pose`. Raises `ConfigError` for another value,
    and where the estimator has no such choice."""
    require(choice in POSES, "pose", choice, f"give {' or '.join(POSES)}")
    recorded = choice != WITH_POSES and estimator not in GEM_CONFIGS
    require(not recorded, "pose", choice, f"leave it out: {estimator} predicts no poses")
    return choice == WITH_POSES
