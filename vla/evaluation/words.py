"""What the figures of a training's log are called on pages: no name of `metrics.jsonl` is shown."""

from __future__ import annotations

import re

WORDS = {
    "step": "updates",
    "loss": "all losses together",
    "flow": "action (flow) loss",
    "depth": "depth loss",
    "depth_top1": "share of depth codes predicted right",
    "depth_weight": "weight of the depth loss",
    "grad_norm": "gradient norm",
    "grad_flow": "gradient norm of the action loss at SigLIP",
    "grad_depth": "gradient norm of the depth loss at SigLIP",
    "lr": "learning rate",
    "samples_per_s": "samples per second",
    "data_wait": "share of the time spent waiting for data",
    "mfu": "share of the GPUs' peak (MFU)",
    "tflops": "TFLOP/s",
    "validate_s": "seconds of a validation",
    "val_action_mse": "held-out action error (MSE, normalised)",
    "val_action_mse_shuffled": "the same with the instruction of another task",
    "val_depth": "held-out depth loss",
    "val_depth_top1": "held-out share of depth codes predicted right",
    "val_depth_error": "held-out error of decoded depth (share of the range)",
}
_WITHIN = re.compile(r"val_action_within_(?P<distance>[\d.]+)")


def words_of(name: str) -> str:
    """A figure of the log in words; a name that is not known, with spaces."""
    if match := _WITHIN.fullmatch(name):
        return f"held-out actions within {match['distance']} of the truth"
    return WORDS.get(name, name.replace("_", " "))
