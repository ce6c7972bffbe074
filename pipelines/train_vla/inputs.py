"""The stores of a training as settings: where they lie, and how they are drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated


@dataclass(frozen=True)
class Stores:
    """Where the data of a training lie, and how they are drawn from."""

    episodes: Annotated[tuple[Path, ...], "an EpisodeStore; repeatable"]
    codes: Annotated[tuple[Path, ...], "its CodeStore, in the same order"] = ()
    depth: Annotated[tuple[Path, ...], "its DepthStore, for pixel targets and crops"] = ()
    codebook: Annotated[Path | None, "the codes' codebook, if it has moved"] = None
    source_root: Annotated[Path | None, "where the source data set lies now, if it moved"] = None
    sampling_weight: Annotated[tuple[float, ...], "sampling weight, one per data set"] = ()
    mixture: Annotated[str, "weights and cameras by data set: magic-soup-plus, or TOML"] = ""
    held_out: Annotated[float, "fraction of episodes held out for validation"] = 0.1
    frame_cache: Annotated[Path | None, "keep decoded frames in this directory"] = None
    partial: Annotated[bool, "use stores that lack parts"] = False
