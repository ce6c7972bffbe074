"""What estimators are asked for when they are held against themselves: the settings of `annotate`
that change their depth. Each goes to the estimators that take it. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from depthtok.config import built
from depthtok.errors import ConfigError, did_you_mean
from pipelines.config import AnnotateConfig
from pipelines.depth.gem.config import GEM_CONFIGS
from pipelines.depth.single_frames.config import KINDS

Chosen = dict[str, str | float | bool]


@dataclass(frozen=True)
class AuditConfig:
    """Settings of estimators, as of `annotate`."""

    kind: Annotated[
        str,
        f"of the depth, where an estimator does not say it: {', '.join(KINDS)}; of one of several "
        "estimators: NAME=KIND,NAME=KIND",
    ] = ""
    focal_px: Annotated[
        float, "focal length in pixels of the frame, for metres; 0: the data's intrinsics"
    ] = 0.0
    shift: Annotated[float, "of relative depth z: its disparity is 1 / (z + shift)"] = 0.0
    sky: Annotated[bool, "leave the sky out, where the network tells it"] = False
    steady: Annotated[str, "align scale and shift over a clip: off, causal, clip"] = "off"
    pose: Annotated[str, "of gemdepth: on embeds the camera poses that it predicts; or off"] = "on"

    def of(self, names: Sequence[str]) -> list[tuple[AnnotateConfig, Chosen]]:
        """How each of some estimators is run, in their order, and which settings it was given.

        Raises `ConfigError` for a setting that none of them takes.
        """
        from pipelines.depth.registry import find

        chosen: list[Chosen] = [{} for _ in names]
        kinds = self._kinds(names)
        for name, settings in zip(names, chosen, strict=True):
            if name in kinds and find(name).kind is None:
                settings["kind"] = kinds[name]
        for key in ("focal_px", "shift", "sky", "steady", "pose"):
            value = getattr(self, key)
            for name, settings in zip(names, chosen, strict=True):
                if value != getattr(AuditConfig, key) and _takes(name, key):
                    settings[key] = value
        for key in ("kind", "focal_px", "shift", "sky", "steady", "pose"):
            if getattr(self, key) != getattr(AuditConfig, key):
                self._require_taken(key, names, chosen)
        return [
            (built(AnnotateConfig, {"estimator": name, **settings}), settings)
            for name, settings in zip(names, chosen, strict=True)
        ]

    def _require_taken(self, key: str, names: Sequence[str], chosen: Sequence[Chosen]) -> None:
        if not any(key in settings for settings in chosen):
            raise ConfigError(
                f"none of {', '.join(names)} takes `{key}`", remedy=f"leave --set {key}=... out"
            )

    def _kinds(self, names: Sequence[str]) -> dict[str, str]:
        """The kind that is stated of each estimator. Raises `ConfigError` for a name that is not
        among them."""
        if "=" not in self.kind:
            return dict.fromkeys(names, self.kind) if self.kind else {}
        stated = {}
        for pair in self.kind.split(","):
            name, _, kind = pair.strip().rpartition("=")
            if name not in names:
                raise ConfigError(
                    f"kind={pair.strip()}: {name!r} is no --estimator of this audit",
                    remedy=did_you_mean(name, list(names)),
                )
            stated[name] = kind
        return stated


def _takes(name: str, key: str) -> bool:
    """Whether an estimator takes a setting; of its poses only GemDepth has a choice."""
    from pipelines.depth.registry import find

    return name in GEM_CONFIGS if key == "pose" else key in find(name).takes
