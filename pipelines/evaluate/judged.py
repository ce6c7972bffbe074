"""Whose depth codes can be compared with those of what is seen."""

from __future__ import annotations

from vla.config import DepthConfig


def knows_codes(depth: DepthConfig) -> bool:
    """Whether a policy predicts, or takes, the codes of the frame that it sees: not those of a
    later one, nor latents or pixels, of which none is the most likely."""
    predicts = depth.target == "codes" and not depth.future
    return depth.uses_depth and (predicts or depth.target == "input")
