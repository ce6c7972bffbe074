"""What training clips are normalised by: the range of each, and constants of all."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np

from depthtok.data import DepthClip, DepthKind
from depthtok.errors import DepthKindError, SourceError
from depthtok.normalisation import Normalisation, Range
from vqvae.data.clips import ClipSource, DepthSequence


def range_of(clip: DepthSequence, normalisation: Normalisation) -> Range:
    """The range of a clip that is mapped to 0..1. Raises `SourceError` if it has no frames or no
    extent."""
    if clip.frames == 0:
        raise SourceError(f"{clip.key} {clip.camera} has no frames", remedy="leave it out")
    return normalisation.range_of(clip.disparity_quantiles)


def require_one_kind(sources: Sequence[ClipSource]) -> DepthKind | None:
    """The kind of all depth in the sources; None if they are empty. Raises `DepthKindError` for a
    mixture, over which neither a quality report nor a fixed range would be meaningful; relative
    depth with two shifts is one, too."""
    # No dictionary: two stores of one data set have one name.
    firsts = [(source.name, source.clips[0].read(0, 1)) for source in sources if len(source.clips)]
    if len({(clip.kind, clip.shift) for _, clip in firsts}) > 1:
        raise DepthKindError(
            "depth of several kinds in one training run: "
            + ", ".join(f"{name} is {_in_words(clip)}" for name, clip in firsts),
            remedy="train on depth of one kind; the codebook can encode the other kind too",
        )
    return next((clip.kind for _, clip in firsts), None)


def _in_words(clip: DepthClip) -> str:
    relative = clip.kind is DepthKind.RELATIVE_DEPTH
    return f"{clip.kind} with shift {clip.shift:g}" if relative else str(clip.kind)


def fit_normalisation(
    name: str, metric_range: tuple[float, float], sources: Sequence[ClipSource]
) -> Normalisation:
    """The normalisation `name`, with its constants, if any, taken from the training clips. Raises
    `DepthKindError` for metres and disparity in one fixed range."""
    if name == "metric":
        for source in sources:
            if len(source.clips):
                source.clips[0].read(0, 1).require(DepthKind.METRES)
        return Normalisation(name, lo=metric_range[0], hi=metric_range[1])
    if name == "dataset":
        low, high = np.inf, -np.inf
        kind = require_one_kind(sources)
        for clip in (clip for source in sources for clip in source.clips):
            with contextlib.suppress(SourceError):  # training skips a clip without a range, too
                lo, hi = range_of(clip, Normalisation())
                low, high = min(low, lo), max(high, hi)
        return Normalisation(name, lo=float(low), hi=float(high), kind=kind)
    return Normalisation(name)
