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


def median_depths(store: DepthStore, parts: Sequence[Part]) -> dict[str, float]:
    """By camera, m: of each episode in at most `MOST_PARTS` of the parts the median of its valid
    depth, of those the median. Cameras without valid depth are left out; {} where depth is not in
    metres. Reads the table of quantiles only."""
    if store.kind is not DepthKind.METRES:
        return {}
    looked_at = parts[:: math.ceil(len(parts) / MOST_PARTS) or 1]
    medians: dict[str, list[float]] = {camera: [] for camera in store.cameras}
    for part in looked_at:
        for clip in store.clips_of(part, store.cameras):
            medians[clip.camera].append(clip.quantiles[MEDIAN])
    valid = {camera: [m for m in values if m == m] for camera, values in medians.items()}
    return {camera: float(np.median(values)) for camera, values in valid.items() if values}


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
    return f"{metres:.3g}" if metres < 1000 else f"{metres:,.0f}"
