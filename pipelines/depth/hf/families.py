"""The families of depth models in transformers: what their depth is, and what they need."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

from depthtok.data import DepthKind
from depthtok.errors import ConfigError, MissingPackage
from pipelines.depth.single_frames.config import KINDS

METRES = ("glpn", "zoedepth", "tipsv2_dpt", "depth_pro")
UNSAID = {"dpt": "MiDaS checkpoints give disparity, fine-tuned ones may give metres"}
TYPES = {"relative": DepthKind.DISPARITY, "metric": DepthKind.METRES}  # of depth_anything
REFUSED = {
    "prompt_depth_anything": "it wants measured depth besides the image",
    "chmv2": "it gives the height of trees seen from above, not depth",
}
WITH_TORCHVISION = ("zoedepth", "tipsv2_dpt", "depth_pro")
FAMILIES = ("depth_anything", *METRES, *UNSAID)


def kind_of(name: str, config: Mapping[str, object], stated: str) -> DepthKind:
    """The kind of a model's depth, from its configuration and the `kind` that was stated, if any.

    Raises `ConfigError` for a family that is refused, for one that does not say it where nothing is
    stated, and where the family says otherwise.
    """
    family = str(config.get("model_type", ""))
    if family not in FAMILIES:
        why = REFUSED.get(family, "it is none of the families with one depth per image")
        raise ConfigError(
            f"{name} is of the family {family or 'unknown'!r}, which cannot be used: {why}",
            remedy=f"choose a model of {', '.join(FAMILIES)}",
        )
    kind = DepthKind.METRES if family in METRES else None
    if family == "depth_anything":
        kind = TYPES.get(str(config.get("depth_estimation_type", "relative")))
    if kind is None:
        if not stated:
            raise ConfigError(
                f"the family {family} does not say what the depth of {name} is: "
                f"{UNSAID.get(family, 'its type is not known')}",
                remedy=f"state it: --set kind=..., one of {', '.join(KINDS)}; see its model card",
            )
        return DepthKind(stated)
    if stated and DepthKind(stated) is not kind:
        raise ConfigError(
            f"{name} gives {kind}, as its configuration says, not {stated}",
            remedy="leave kind out",
        )
    return kind


def require_packages(family: str) -> None:
    """Raises `MissingPackage` for a family whose processor wants torchvision, which is not here."""
    if family in WITH_TORCHVISION and importlib.util.find_spec("torchvision") is None:
        raise MissingPackage(
            f"models of the family {family} need the package `torchvision`",
            remedy="pip install torchvision, in the version of the installed torch",
        )
