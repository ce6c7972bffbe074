"""Comparison of two CodeStores of the same frames and codebook: how often their codes agree, and
how often each changes over time. It shows, for example, what estimating depth does to the codes.

    agreement = Agreement.of(CodeStore("codes-of-true-depth"), CodeStore("codes-of-estimates"))
"""

# T frames, h w the grid, K codes, E episodes

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from depthtok.data import DepthKind, EpisodeKey
from depthtok.errors import ConfigError
from depthtok.intervals import Estimate
from depthtok.pages.colour import colourise
from depthtok.pages.pictures import Picture
from depthtok.pages.report import Report, plain
from depthtok.pages.scale import even_bar
from depthtok.stores.codes import CodeStore

FIGURES = {  # per episode, with labels
    "same": "equal codes",
    "changes_a": "A: codes that change from one frame to the next",
    "changes_b": "B: codes that change from one frame to the next",
    "only_b": "codes that change in B but not in A",
    "only_a": "codes that change in A but not in B",
}
MAP_CELL = 12  # px per cell in the maps
K = 256
Grids = UInt8[np.ndarray, "T h w"]


@dataclass
class CameraAgreement:
    """One camera: figures per episode, and sums over all frames."""

    grid: tuple[int, int]
    episodes: list[dict[str, float]] = field(default_factory=list)
    same_hw: Int64[np.ndarray, "h w"] = field(init=False)
    counts_2K: Int64[np.ndarray, "2 K"] = field(init=False)
    frames: int = 0

    def __post_init__(self) -> None:
        self.same_hw = np.zeros(self.grid, np.int64)
        self.counts_2K = np.zeros((2, K), np.int64)

    def add(self, a_Thw: Grids, b_Thw: Grids) -> None:
        """Adds an episode."""
        same = a_Thw == b_Thw
        self.frames += len(same)
        self.same_hw += same.sum(0)
        self.counts_2K += [np.bincount(x.ravel(), minlength=K) for x in (a_Thw, b_Thw)]
        figures = {"same": float(same.mean())}
        if len(same) > 1:
            a, b = (x[1:] != x[:-1] for x in (a_Thw, b_Thw))
            changes = {"changes_a": a, "changes_b": b, "only_b": b & ~a, "only_a": a & ~b}
            figures |= {name: float(which.mean()) for name, which in changes.items()}
        self.episodes.append(figures)

    @property
    def by_chance(self) -> float:
        """Expected share of equal codes if each store drew codes at random from its frequencies."""
        a, b = self.counts_2K / self.counts_2K.sum(axis=1, keepdims=True)
        return float(a @ b)

    def estimate(self, figure: str) -> Estimate | None:
        """Mean over episodes, weighted equally; None if all have only a single frame."""
        values = [figures[figure] for figures in self.episodes if figure in figures]
        return Estimate.of(values) if values else None

    def shares(self) -> Float64[np.ndarray, "h w"]:
        """For each cell, the share of frames in which its codes are equal."""
        return self.same_hw / self.frames

    def to_json(self) -> dict[str, Any]:
        """Plain values; intervals are None for a single episode."""
        means = {
            name: {
                "mean": share.mean,
                "low": share.mean - share.half,
                "high": share.mean + share.half,
            }
            for name in FIGURES
            if (share := self.estimate(name)) is not None
        }
        by_chance = {"same_by_chance": self.by_chance, "same_by_cell": self.shares().tolist()}
        return {"episodes": len(self.episodes), "frames": self.frames, **means, **by_chance}


@dataclass(frozen=True)
class Agreement:
    """Two stores, compared over the episodes and cameras that both have."""

    a: CodeStore
    b: CodeStore
    cameras: dict[str, CameraAgreement]
    alone: tuple[int, int]  # episodes only in A, only in B

    @classmethod
    def of(cls, a: CodeStore, b: CodeStore) -> Agreement:
        """Raises `StaleStore` for codes of different codebooks, `ConfigError` if the two share no
        episode or no camera, or have different frames for an episode."""
        a.require_codebook(b.codebook)
        names = [name for name in a.cameras if name in b.cameras]
        keys = [key for key in _keys(a) if key in b]
        if not names or not keys:
            raise ConfigError(
                f"{a.path} and {b.path} have no {'episode' if names else 'camera'} in common",
                remedy="tokenize depth of the same data set and cameras",
            )
        cameras = {name: CameraAgreement(a.grid) for name in names}
        for key in keys:
            for name, camera in cameras.items():
                if a.absent(key, name) or b.absent(key, name):
                    continue
                pair = a.grid_of(key, name).codes, b.grid_of(key, name).codes
                _require_frames(key, *pair)
                camera.add(*pair)
        alone_a, alone_b = (sum(1 for _ in _keys(store)) - len(keys) for store in (a, b))
        compared = {name: camera for name, camera in cameras.items() if camera.episodes}
        if not compared:
            raise ConfigError(
                f"no episode of {a.path} and {b.path} has a camera that both have",
                remedy="tokenize depth of the same cameras",
            )
        return cls(a, b, compared, (alone_a, alone_b))

    def words(self) -> list[str]:
        """The comparison as text."""
        lines = [f"A {self.a.path}", f"B {self.b.path}"]
        for name, camera in self.cameras.items():
            lines.append(f"{name}: {len(camera.episodes)} episodes, {camera.frames} frames")
            lines += [f"  {label}: {value}" for label, value in _rows(camera)]
        return [*lines, *self._left_out()]

    def _left_out(self) -> Sequence[str]:
        stores = zip((self.a, self.b), self.alone, strict=True)
        return [
            f"{count} more episodes are only in {store.path}" for store, count in stores if count
        ]

    def report(self) -> Report:
        """A page with the figures, and maps of where in the image the codes are equal."""
        page = Report("Two code stores", f"A {self.a.path}, B {self.b.path}")
        page.related([self.a.path, self.b.path])
        page.text(
            "Means over episodes, ± half a 95 % interval (Student's t). Codes that differ may "
            "still decode to nearly the same depth: compare with `depthtok decode` of both and "
            "`depthtok audit-depth`.",
            *self._left_out(),
        )
        for name, camera in self.cameras.items():
            page.table(name, ["figure", "share of codes"], map(list, _rows(camera)))
        maps = [Picture(_map(camera), name) for name, camera in self.cameras.items()]
        bars = [even_bar("Share of the frames in which the codes are equal", 0, 100, " %")]
        return page.pictures("Where in the image the codes are equal", maps, bars=bars)

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain values."""
        cameras = {name: camera.to_json() for name, camera in self.cameras.items()}
        return plain({"a": self.a.path, "b": self.b.path, "cameras": cameras, "alone": self.alone})


def _rows(camera: CameraAgreement) -> Iterator[tuple[str, str]]:
    for name, label in FIGURES.items():
        if (estimate := camera.estimate(name)) is not None:
            yield label, str(estimate)
    yield "equal codes expected by chance", f"{camera.by_chance:.4g}"


def _map(camera: CameraAgreement) -> UInt8[np.ndarray, "H W 3"]:
    cells = np.kron(camera.shares(), np.ones((MAP_CELL, MAP_CELL)))
    return colourise(cells, DepthKind.DISPARITY, 0, 1)


def _keys(store: CodeStore) -> Iterator[EpisodeKey]:
    for part in store.parts():
        for index in part.indices.tolist():
            yield part.shard.episode(index)


def _require_frames(key: EpisodeKey, a_Thw: Grids, b_Thw: Grids) -> None:
    if a_Thw.shape != b_Thw.shape:
        raise ConfigError(
            f"episode {key} has {len(a_Thw)} frames in one store and {len(b_Thw)} in the other",
            remedy="make both from the same EpisodeStore",
        )
