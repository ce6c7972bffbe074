"""The median depth of each camera, as it is stored: a wrong unit of depth shows there at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from depthtok.data import QUANTILES, DepthKind
from depthtok.json_values import values_of
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.parts import Part
from pipelines.convert.description import overwriting
from pipelines.depth.reach import OUT_OF_REACH, within_reach

MOST_PARTS = 64  # looked at, evenly spaced: the cost is the same for a store of any size
MEDIAN = QUANTILES.index(0.5)
NOTED = "median_depths_m"  # `medians_of`, in the meta of parts whose depth is not kept


def median_depths(store: DepthStore, parts: Sequence[Part]) -> dict[str, float]:
    """By camera, m: of each episode in at most `MOST_PARTS` of the parts the median of its valid
    depth, of those the median. Cameras without valid depth are left out; {} where depth is not in
    metres. Reads the table of quantiles only."""
    return _medians([medians_of(store, part) for part in _some(parts)])


def noted_medians(parts: Sequence[Part]) -> dict[str, float]:
    """The same of parts that noted it as their depth was dropped (`NOTED`)."""
    return _medians([part.meta.get(NOTED, {}) for part in _some(parts)])


def medians_of(store: DepthStore, part: Part) -> dict[str, list[float]]:
    """By camera: the median depth of each episode of a part that has valid depth, m. {} where it is
    not in metres."""
    medians: dict[str, list[float]] = {}
    if store.kind is DepthKind.METRES:
        for clip in store.clips_of(part, store.cameras):
            if (median := clip.quantiles[MEDIAN]) == median:
                medians.setdefault(clip.camera, []).append(median)
    return medians


def _some(parts: Sequence[Part]) -> Sequence[Part]:
    return parts[:: math.ceil(len(parts) / MOST_PARTS) or 1]


def _medians(several: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, float]:
    cameras = dict.fromkeys(camera for medians in several for camera in medians)
    values = {
        camera: [m for medians in several for m in medians.get(camera, ())] for camera in cameras
    }
    return {camera: float(np.median(those)) for camera, those in values.items()}


def unlikely(
    medians: Mapping[str, float], episodes: EpisodeStore, *, of_data_set: bool
) -> list[str]:
    """Warnings about medians that no robot's camera sees: the likely cause, and what to type.
    `of_data_set`: the depth is the data set's own, whose unit the schema states."""
    beyond = {camera: m for camera, m in medians.items() if not within_reach(m)}
    if not beyond:
        return []
    problem = f"the median depth ({in_words(beyond)}) is {OUT_OF_REACH}"
    if not of_data_set:
        return [
            f"{problem}: the estimator's scale does not fit these images. Choose another "
            "estimator, or give it the right focal length (--set focal_px=) if it takes one"
        ]
    what = episodes.spec.what
    split = values_of(what, "split", str) if "split" in what else ()
    copied = what.get("copy_images") is True
    command = overwriting(episodes.source_root, episodes.path, split, "my.toml", copied)
    return [
        f"{problem}: most likely `depth_unit` in the schema is wrong. Mend it there, convert again "
        f"(`{command}`), and annotate into a new --out"
    ]


def in_words(medians: Mapping[str, float]) -> str:
    """`image 0.95 m, wrist 0.23 m`."""
    return ", ".join(f"{camera} {_rounded(median)} m" for camera, median in medians.items())


def _rounded(metres: float) -> str:
    return f"{metres:.3g}" if metres < 999.5 else f"{metres:,.0f}"
