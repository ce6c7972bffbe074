"""Example frames, stored with a codebook: one from each of some clips, and the worst ones."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from einops import rearrange
from jaxtyping import Bool, Float32, Int64, UInt8

from depthtok.disk.files import write_atomic
from depthtok.disk.regular import require_given
from depthtok.errors import CorruptPart
from depthtok.normalisation import HIGH, LOW
from vqvae.data.frames import INVALID, pack, unpack

FILE = "examples.npz"


@dataclass(frozen=True)
class Example:
    """One frame, ground truth and reconstruction, in normalised disparity."""

    clip: str
    frame: int
    true: Float32[np.ndarray, "H W"]
    decoded: Float32[np.ndarray, "H W"]
    valid: Bool[np.ndarray, "H W"]
    codes: UInt8[np.ndarray, "h w"] | None
    l1: float


@dataclass
class Examples:
    """The middle frames of the first clips, the worst frames of the clips with the largest errors,
    and for each code the mean of all cells with that code (NaN if it did not occur)."""

    number: int = 8
    spread: list[Example] = field(default_factory=list)
    worst: list[Example] = field(default_factory=list)
    cells: Float32[np.ndarray, "K c c"] | None = None
    uses: Int64[np.ndarray, " K"] | None = None

    def copy(self) -> Examples:
        """An independent copy."""
        cells = None if self.cells is None else self.cells.copy()
        uses = None if self.uses is None else self.uses.copy()
        return Examples(self.number, [*self.spread], [*self.worst], cells, uses)

    def take(self, frames: int, batch: Iterator[Example]) -> None:
        """Keep the frames of a clip that qualify as examples; the clip has `frames` frames."""
        for example in batch:
            if example.frame == frames // 2 and len(self.spread) < self.number:
                self.spread.append(example)
            if len(self.worst) < self.number or example.l1 > self.worst[-1].l1:
                self._rank(example)

    def look(
        self, images: Float32[np.ndarray, "T H W"], codes: UInt8[np.ndarray, "T h w"], number: int
    ) -> None:
        """Add frames to the mean cells of the `number` codes."""
        cell = images.shape[1] // codes.shape[1]
        cells = rearrange(images, "t (h a) (w b) -> (t h w) a b", a=cell, b=cell)
        order = np.argsort(codes, axis=None, kind="stable")
        present, starts, counts = np.unique(
            codes.ravel()[order], return_index=True, return_counts=True
        )
        if self.cells is None or self.uses is None:
            self.cells = np.full((number, cell, cell), np.nan, np.float32)
            self.uses = np.zeros(number, np.int64)
        before = self.uses[present]
        self.uses[present] += counts
        means = np.where(before[:, None, None] > 0, self.cells[present], 0)
        means *= (before / self.uses[present])[:, None, None]
        sums = np.add.reduceat(cells[order], starts, axis=0, dtype=np.float64)
        self.cells[present] = means + sums / self.uses[present][:, None, None]

    def _rank(self, example: Example) -> None:
        """Rank a frame among the worst; one per clip, because its neighbours look the same."""
        same_clip = [e for e in self.worst if e.clip == example.clip]
        if same_clip and same_clip[0].l1 >= example.l1:
            return
        other_clips = [e for e in self.worst if e.clip != example.clip]
        self.worst = sorted([*other_clips, example], key=lambda e: -e.l1)[: self.number]

    def save(self, directory: Path) -> None:
        """Write the examples, compressed, in the 6e-5 steps of the range that training uses."""
        both = [*self.spread, *self.worst]
        arrays = {
            "clip": np.array([e.clip for e in both], dtype=np.str_),
            "frame": np.array([e.frame for e in both]),
            "l1": np.array([e.l1 for e in both]),
            "true": np.array([pack(e.true, e.valid) for e in both]),
            "made": np.array([pack(np.clip(e.decoded, LOW, HIGH), e.valid) for e in both]),
            "spread": np.array(len(self.spread)),
        }
        if self.cells is not None:
            arrays["codes"] = np.array([e.codes for e in both])
            arrays["cells"] = self.cells
        out = io.BytesIO()
        np.savez_compressed(out, allow_pickle=False, **arrays)
        write_atomic(directory / FILE, out.getvalue())

    @classmethod
    def load(cls, directory: Path) -> Examples | None:
        """The examples of a codebook; None if there are none. Raises `CorruptPart`."""
        if not (directory / FILE).is_file():
            return None
        try:
            return cls._read(directory / FILE)
        except (ValueError, KeyError, OSError, zipfile.BadZipFile, zlib.error) as error:
            require_given(directory / FILE, error)
            raise CorruptPart(
                f"{directory / FILE} is damaged: {error}",
                remedy="delete it: the report then shows figures only",
            ) from error

    @classmethod
    def _read(cls, file: Path) -> Examples:
        with np.load(file, allow_pickle=False) as arrays:
            clips, frames, l1 = (arrays[name].tolist() for name in ("clip", "frame", "l1"))
            codes = arrays["codes"] if "codes" in arrays else [None] * len(frames)
            images = zip(arrays["true"], arrays["made"], codes, strict=True)
            both = [
                Example(clip, frame, unpack(true), unpack(decoded), true < INVALID, code, error)
                for clip, frame, error, (true, decoded, code) in zip(
                    clips, frames, l1, images, strict=True
                )
            ]
            cut = int(arrays["spread"])
            cells = arrays.get("cells")
        return cls(max(cut, len(both) - cut), both[:cut], both[cut:], cells)
