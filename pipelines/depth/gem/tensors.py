"""Which tensors of GemDepth's checkpoint are used.

The published file is one flat dictionary of 767 tensors. 66 of them have no effect on the depth and
are left out by name; without poses, what predicts them is as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pipelines.depth.gem.config import GemConfig

UNUSED = re.compile(
    r"(frame_blocks|global_blocks)\.1\."
    r"|head\.proj\.\d\."
    r"|head\.motion_modules\.\d\.temporal_transformer\.(fusion_gate1\.0|layer_norm)\."
    r"|head\.scratch\.refinenet4\.resConfUnit1\."
    r"|pretrained\.mask_token$"
    r"|pos_encoder\.pe$"
)
"""Names of tensors without effect, from their start."""

POSE = re.compile(r"(frame_blocks|global_blocks|camera_head)\.|(camera|register)_token$")
"""Of tensors that do nothing but predict poses."""


def used(names: Iterable[str], config: GemConfig) -> list[str]:
    """Those of a checkpoint's names that a network is made of."""
    return [
        name for name in names if not UNUSED.match(name) and (config.pose or not POSE.match(name))
    ]
