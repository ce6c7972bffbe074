"""Weights as the Hub keeps PaliGemma's: the inverse of `vla.weights.paligemma.from_paligemma`."""

import re

from torch import Tensor

from vla.model.model import QDepthVLA
from vla.weights.paligemma import PARTS, sources


def to_paligemma(model: QDepthVLA) -> dict[str, Tensor]:
    """A model's tensors by the Hub's original names, which every reader supports."""
    config = model.config
    converted: dict[str, Tensor] = {}
    for target, tensor in model.state_dict().items():
        if target.split(".")[0] not in PARTS:
            continue
        names = sources(target)
        if target == "vision.patches.weight":
            patch = config.vision.patch
            tensor = tensor.unflatten(1, (3, patch, patch))
        rows = [len(tensor) // len(names)] * len(names)
        if target.startswith("vlm.") and ".qkv." in target:
            head = config.vlm.head_dim
            rows = [config.vlm.heads * head, *[config.vlm.kv_heads * head] * 2]
        converted |= dict(zip(map(_hub_name, names), tensor.split(rows), strict=True))
    return {name: tensor.contiguous() for name, tensor in converted.items()}


def _hub_name(name: str) -> str:
    name = re.sub(r"^language_model\.", "language_model.model.", name)
    return re.sub(r"^vision_tower\.", "vision_tower.vision_model.", name)
