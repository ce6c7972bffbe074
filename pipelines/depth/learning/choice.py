"""Which family an estimator's name is of, for fine-tuning."""

from __future__ import annotations

from depthtok.errors import ConfigError
from pipelines.depth.da3.config import CONFIGS as DA3_CONFIGS
from pipelines.depth.gem.config import GEM_CONFIGS, gem_config, poses
from pipelines.depth.hf.reference import START
from pipelines.depth.learning.da3 import DA3Family
from pipelines.depth.learning.hf import HfFamily
from pipelines.depth.learning.learner import Family
from pipelines.depth.learning.outside import OutsideFamily
from pipelines.depth.learning.windows import WindowFamily
from pipelines.depth.outside import point_named
from pipelines.depth.registry import find
from pipelines.depth.single_frames.config import FrameConfig
from pipelines.depth.vida.config import CONFIGS, RunConfig


def trainable(name: str, pose: str = "on", frame: FrameConfig | None = None) -> Family:
    """The family of the estimator `name`. `pose` is a choice of GemDepth, `frame` of those that see
    single frames. Raises `ConfigError` for an unknown name, one that cannot be fine-tuned, and for
    a choice that it does not take."""
    with_poses, frame = poses(pose, name), frame or FrameConfig()
    entry = find(name)
    entry.require_taken(RunConfig(frame=frame))
    if name in GEM_CONFIGS:
        return WindowFamily(gem_config(name, pose=with_poses))
    if name in CONFIGS:
        return WindowFamily(CONFIGS[name])
    if name in DA3_CONFIGS:
        return DA3Family(DA3_CONFIGS[name], frame)
    if name.startswith(START):
        return HfFamily(name, frame, entry.notice)
    if (point := point_named(name)) is not None:
        return OutsideFamily(point, frame, entry.notice)
    raise ConfigError(
        f"the estimator {name!r} cannot be fine-tuned: there is no network to train",
        remedy=f"give one of {', '.join([*CONFIGS, *GEM_CONFIGS, *DA3_CONFIGS])}, hf:OWNER/NAME, "
        "or one of another package",
    )
