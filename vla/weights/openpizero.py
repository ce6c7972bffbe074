"""Converts open-pi-zero checkpoints to this model: PaliGemma's part and the action expert.

How their format differs, and how it is converted:

- A file has `model`, the tensors by name; torch.compile leaves `_orig_mod.` in the names.
- Vision, projector, embedding and Gemma have nearly the same names as in PaliGemma. Gemma's final
  norm is missing, but its output is not used.
- Proprio and actions share one expert; its tensors are stored twice.
- Every expert input embedding is multiplied by the square root of its width, including proprio and
  actions. Here only text is: for the others the factor is folded into the last layer.
- The action encoder concatenates time before the action; here it comes after.
- Time 1 is data, and Euler integrates from 0 to 1, as here.

They cap attention logits with 50 tanh(x / 50), which fused kernels do not support; this model does
not. Logits of that size are rare, but outputs do not match theirs exactly.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor

from depthtok.disk.regular import require_file
from depthtok.errors import WeightsError
from vla.config import ModelConfig
from vla.weights.paligemma import gathered

ENCODER = "action_encoder.linear_"
PREFIXES = {
    r"^joint_model\.mixtures\.vlm\.": "language_model.",
    r"^joint_model\.mixtures\.action\.": "action_expert.",
    r"^embed_tokens\.": "language_model.embed_tokens.",
}
FOREIGN = {
    "lora_": "adapters: merge them into the weights first",
    "to_gamma": "an expert with adaLN time modulation, which this model does not have",
}


def load_open_pi_zero(
    path: Path, config: ModelConfig, tokens: int | None = None
) -> dict[str, Tensor]:
    """`from_open_pi_zero` for a file. Raises `WeightsError` if it is not such a checkpoint."""
    require_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, UnpicklingError) as error:
        raise WeightsError(
            f"{path} cannot be read: {str(error).splitlines()[0]}", remedy="download it again"
        ) from error
    if not isinstance(content, Mapping) or not isinstance(content.get("model"), Mapping):
        raise WeightsError(
            f"{path} has no `model`",
            remedy="name a checkpoint of open-pi-zero, a PaliGemma folder, or a run",
        )
    return from_open_pi_zero(content["model"], config, tokens)


def from_open_pi_zero(
    tensors: Mapping[str, Tensor], config: ModelConfig, tokens: int | None = None
) -> dict[str, Tensor]:
    """All weights except the depth expert's, from open-pi-zero's tensors.

    `tokens` is how many tokens a prompt can have: see `vla.weights.paligemma.with_rows`. Raises
    `WeightsError` for a tensor that is missing, has another shape, or that this model does not
    support.
    """
    named = {_name(name): tensor.float() for name, tensor in tensors.items()}
    for mark, what in FOREIGN.items():
        if any(mark in name for name in named):
            raise WeightsError(f"the checkpoint has {what}", remedy="use another checkpoint")
    norm = torch.zeros(config.vlm.width)
    by_name = {"language_model.norm.weight": norm, **named}
    parts = ("vision", "projector", "embed", "vlm", "action")
    return gathered(by_name, config, parts, tokens) | _door(by_name, config)


def _name(name: str) -> str:
    name = name.replace("_orig_mod.", "").replace("vision_tower.vision_model.", "vision_tower.")
    for prefix, replacement in PREFIXES.items():
        name = re.sub(prefix, replacement, name)
    return name


def _door(tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The input and output layers of the action expert."""
    width = config.action.width
    scale = width**0.5
    sources = {
        "action_in": (f"{ENCODER}1", 1.0),
        "mix": (f"{ENCODER}2", 1.0),
        "mixed": (f"{ENCODER}3", scale),
        "proprio_in": ("proprio_encoder", scale),
        "action_out": ("action_decoder", 1.0),
    }
    if not config.proprio_dim:
        del sources["proprio_in"]
    door = {}
    for layer, (source, factor) in sources.items():
        for kind in ("weight", "bias"):
            if f"{source}.{kind}" not in tensors:
                raise WeightsError(
                    f"no tensor {source}.{kind} among {len(tensors)}",
                    remedy="name a checkpoint of open-pi-zero",
                )
            door[f"door.{layer}.{kind}"] = tensors[f"{source}.{kind}"] * factor
    door["door.mix.weight"] = door["door.mix.weight"].roll(width, dims=1)  # time goes last
    return door
