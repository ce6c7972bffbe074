"""Estimators of other packages, which offer them by the entry-point group `depthtok.estimators`.

The simplest is a class that knows the depth of frames:

    class Mine:
        kind = "disparity"       # or "metres", "relative_depth"
        licence = "MIT"          # of its weights
        version = "1"            # increased when the same weights give other depth
        def __init__(self, weights: Path | None, device: str) -> None: ...
        def depth(self, frames):  # uint8 [n, H, W, 3] -> float32 [n, h, w], NaN where there is none

What `finetune-depth` asks of it, `learning/outside.py` says.

One that sees whole clips has `spec` and `estimate` instead of `depth`, as
`depthtok.data.DepthEstimator` describes them. `examples/own_estimator/` is a package to copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8

from depthtok.data import SHIFT, DepthClip, DepthEstimator, DepthKind, EstimatorSpec, FrameClip
from depthtok.disk.digests import file_sha256
from depthtok.disk.regular import lacks_memory
from depthtok.errors import ConfigError, DepthtokError, SourceError, WeightsError
from pipelines.depth.origin import by_metadata, metadata_of
from pipelines.depth.promises import (
    MEND,
    HeldEstimator,
    failure_of,
    numbers_of,
    origin_said,
    sound,
)
from pipelines.depth.single_frames.config import KINDS
from pipelines.depth.single_frames.estimator import FrameEstimator, Inputs
from pipelines.depth.vida.config import RunConfig
from pipelines.depth.vida.estimator import device_name
from pipelines.depth.vida.head import resize

GROUP = "depthtok.estimators"
FRAMES = 8  # of a call at most
LONGEST = 300  # characters of what a class says is wrong: torch lists all tensors


@runtime_checkable
class Frames(Protocol):
    """What a class of another package makes: depth of frames."""

    def depth(self, frames: UInt8[np.ndarray, "n H W 3"]) -> np.ndarray: ...


@dataclass(frozen=True)
class Offer:
    """An estimator that another package offers; `fault` says why it cannot be used, if so."""

    name: str
    package: str
    kind: DepthKind | None = None
    licence: str = "unknown: its package does not say"
    notice: str = ""
    fault: str = ""


def offers() -> Iterator[Offer]:
    """Every estimator that installed packages offer; one that cannot be imported says so."""
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            yield offer_of(point)
        except ConfigError as error:
            yield Offer(point.name, package_of(point), fault=error.problem)


def point_named(name: str) -> EntryPoint | None:
    """The entry point of that name; None where no package has it. Raises `ConfigError` for two."""
    points = list(entry_points(group=GROUP, name=name))
    if len(points) > 1:
        owners = " and ".join(package_of(point) for point in points)
        raise ConfigError(f"{owners} both offer the estimator {name!r}", remedy="uninstall one")
    return points[0] if points else None


def offer_of(point: EntryPoint) -> Offer:
    """What a class says of itself. Raises `ConfigError` where it does not, or cannot be loaded."""
    estimator_class = class_of(point)
    kind = getattr(estimator_class, "kind", None)
    if kind is not None and str(kind) not in KINDS:
        raise ConfigError(
            f"the estimator {point.name!r} of {package_of(point)} has kind {kind!r}",
            remedy=f"its class says one of {', '.join(KINDS)}",
        )
    return Offer(
        point.name,
        package_of(point),
        DepthKind(str(kind)) if kind is not None else None,
        str(getattr(estimator_class, "licence", Offer.licence)),
        str(getattr(estimator_class, "notice", "")),
    )


def package_of(point: EntryPoint) -> str:
    """The package that an entry point is of, with its version."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown package"


def build(
    point: EntryPoint, weights: Path | None, run: RunConfig, device: torch.device
) -> DepthEstimator:
    """An estimator of another package, ready to use. Raises `ConfigError`, `WeightsError`."""
    if weights is not None and not weights.is_file():
        raise WeightsError(f"there is no file {weights}", remedy="give --weights another path")
    if run.input_size is not None or run.precision is not None:
        raise ConfigError(
            f"the estimator {point.name!r} sets its input size and precision itself",
            remedy="leave input_size and precision out",
        )
    require_kind(point, weights, run.frame.kind)
    network = made(point, weights, device)
    if isinstance(network, DepthEstimator):
        if list(run.frame.chosen()):
            raise ConfigError(
                f"the estimator {point.name!r} sees whole clips: it takes no settings",
                remedy="leave out kind, shift and steady",
            )
        return _held(point, network, weights)
    if not isinstance(network, Frames) or not callable(network.depth):
        raise ConfigError(
            f"the estimator {point.name!r} of {package_of(point)} has neither `depth` nor "
            "`estimate`",
            remedy=f"see the protocol at the top of {Path(__file__).name}, or uninstall it",
        )
    return FrameEstimator(OutsideNetwork(point, network, weights, run, device), run.frame.steady)


def class_of(point: EntryPoint) -> type:
    """The class of an entry point. Raises `ConfigError` where that cannot be imported."""
    try:
        loaded = point.load()
    except Exception as error:  # whatever another package raises when it is imported
        raise ConfigError(
            f"the estimator {point.name!r} of {package_of(point)} cannot be imported: "
            f"{type(error).__name__}: {error}",
            remedy="mend that package, or uninstall it",
        ) from error
    if not isinstance(loaded, type):
        raise ConfigError(
            f"the estimator {point.name!r} of {package_of(point)} is no class",
            remedy=f"name a class in its entry point: {point.name} = module:Class",
        )
    return loaded


def made(point: EntryPoint, weights: Path | None, device: torch.device) -> object:
    """An object of its class. Raises `ConfigError` where that raises."""
    offered = class_of(point)
    try:
        return offered(weights, str(device))
    except (DepthtokError, OSError):
        raise
    except Exception as error:  # whatever another package raises
        if lacks_memory(error):
            raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ConfigError(
            f"the estimator {point.name!r} of {package_of(point)} cannot be made with "
            f"(weights, device): {type(error).__name__}: {' '.join(lines)[:LONGEST]}",
            remedy="give it the --weights that it wants, or mend that package",
        ) from error


def kind_of(point: EntryPoint, stated: str) -> DepthKind:
    """The kind of its depth, as the class says or as was stated. Raises `ConfigError` where nothing
    says it, or both do and differ."""
    said = offer_of(point).kind
    kind = said or (DepthKind(stated) if stated else None)
    if kind is None or (stated and stated != kind):
        raise ConfigError(
            f"the estimator {point.name!r} says {said or 'nothing'} of its kind of depth",
            remedy=f"state it: --set kind=..., one of {', '.join(KINDS)}"
            if kind is None
            else "leave kind out",
        )
    return kind


def require_kind(point: EntryPoint, weights: Path | None, stated: str) -> None:
    """Raises `WeightsError` for a file that `finetune-depth` taught to give another kind of depth:
    near and far would be swapped, or metres be of no unit."""
    taught = metadata_of(weights).get("kind", "") if weights else ""
    if taught and taught != (kind := kind_of(point, stated)):
        raise WeightsError(
            f"{weights} was taught to give {taught} (by its metadata), {point.name} gives {kind}",
            remedy="give the estimator that it started from, with the same --set kind=...",
        )


def _held(point: EntryPoint, estimator: DepthEstimator, weights: Path | None) -> DepthEstimator:
    """One that sees whole clips, held to what it says. Raises `ConfigError`."""
    offer, spec = offer_of(point), estimator.spec
    if not isinstance(spec, EstimatorSpec) or (offer.kind and spec.kind is not offer.kind):
        raise ConfigError(
            f"the class of the estimator {point.name!r} says {offer.kind}, its spec is {spec!r}",
            remedy=MEND,
        )
    settings = (("package", point.dist.name if point.dist else ""), ("class", point.value))
    return HeldEstimator(point.name, estimator, settings, offer.licence, weights)


class OutsideNetwork:
    """The frames of another package, as `FrameNetwork` asks for them. They come in groups that
    depend on the clip alone. Raises `ConfigError` where nothing, or two things, say which kind the
    depth is of, and for a shift of depth that is not relative."""

    group, readers, degraded = FRAMES, 0, False

    def __init__(
        self,
        point: EntryPoint,
        made: Frames,
        weights: Path | None,
        run: RunConfig,
        device: torch.device,
    ) -> None:
        self._made, self._device, self._name = made, device, point.name
        said = origin_said(point.name, made)
        in_file = by_metadata(weights, (point.name,)) if weights else None
        self._shift, self.origin = run.frame.shift, said or in_file
        offer, kind = offer_of(point), kind_of(point, run.frame.kind)
        relative = kind is DepthKind.RELATIVE_DEPTH
        if self._shift and not relative:
            raise ConfigError(f"`shift` is of relative depth, not of {kind}", remedy="leave it out")
        chosen = ((key, str(v)) for key, v in run.frame.chosen() if key not in (SHIFT, "kind"))
        self.spec = EstimatorSpec(
            name=point.name,
            kind=kind,
            weights=file_sha256(weights) if weights else "",
            licence=offer.licence,
            settings=(
                ("device", device.type),
                ("package", point.dist.name if point.dist else ""),
                ("class", point.value),
                ("version", str(getattr(type(made), "version", "1"))),
                *(((SHIFT, repr(float(self._shift))),) if relative else ()),
                *chosen,
            ),
        )

    @property
    def device(self) -> str:
        return device_name(self._device)

    def prepare(self, frames: UInt8[np.ndarray, "n H W 3"]) -> Inputs:
        """The frames as they are."""
        return frames

    def depth(self, inputs: Inputs, size: tuple[int, int], clip: FrameClip) -> DepthClip:
        """Its depth, at the frames' size. Raises `SourceError` for another number of frames."""
        assert isinstance(inputs, np.ndarray)
        try:
            answer = self._made.depth(inputs)
        except Exception as error:
            raise failure_of(self._name, error) from error
        values = numbers_of(self._name, answer)
        if values.ndim != 3 or len(values) != len(inputs) or not values.size:
            raise SourceError(
                f"the estimator {self._name!r} gave depth of shape {list(values.shape)} for "
                f"{len(inputs)} frames; expected [{len(inputs)}, height, width]"
            )
        if values.shape[1:] != size:
            values = resize(torch.from_numpy(values)[:, None], size)[:, 0].numpy()
        return sound(DepthClip.of(values, self.spec.kind, shift=self._shift))


def entry(name: str) -> tuple[Offer, partial[DepthEstimator]] | None:
    """What a package offers by a name, and what builds it; None where none does."""
    point = point_named(name)
    return (offer_of(point), partial(build, point)) if point else None
