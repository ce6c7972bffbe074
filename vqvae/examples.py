"""Frames worth looking at: one from each of some clips, and the worst; kept beside a codebook."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from depthtok.files import write_atomic
from depthtok.normalisation import HIGH, LOW
from vqvae.frames import INVALID, pack, unpack

FILE = "examples.npz"


@dataclass(frozen=True)
class Example:
    """One frame, true and reconstructed, in normalised disparity."""

    clip: str
    frame: int
    true: Float32[np.ndarray, "H W"]
    made: Float32[np.ndarray, "H W"]
    valid: Bool[np.ndarray, "H W"]
    codes: UInt8[np.ndarray, "h w"] | None
    l1: float


@dataclass
class Examples:
    """The middle frame of the first clips, and of the clips with the largest errors the worst."""

    number: int = 8
    spread: list[Example] = field(default_factory=list)
    worst: list[Example] = field(default_factory=list)

    def take(self, frames: int, batch: Iterator[Example]) -> None:
        """Keep what is worth keeping of a clip's frames; the clip has `frames` of them."""
        for one in batch:
            if one.frame == frames // 2 and len(self.spread) < self.number:
                self.spread.append(one)
            if len(self.worst) < self.number or one.l1 > self.worst[-1].l1:
                self._rank(one)

    def _rank(self, one: Example) -> None:
        """One frame a clip: its neighbours look the same."""
        rivals = [e for e in self.worst if e.clip == one.clip]
        if rivals and rivals[0].l1 >= one.l1:
            return
        others = [e for e in self.worst if e.clip != one.clip]
        self.worst = sorted([*others, one], key=lambda e: -e.l1)[: self.number]

    def save(self, directory: Path) -> None:
        """Write them, compressed, at the 6e-5 of the range that training sees."""
        both = [*self.spread, *self.worst]
        arrays = {
            "clip": np.array([e.clip for e in both], dtype=np.str_),
            "frame": np.array([e.frame for e in both]),
            "l1": np.array([e.l1 for e in both]),
            "true": np.array([pack(e.true, e.valid) for e in both]),
            "made": np.array([pack(np.clip(e.made, LOW, HIGH), e.valid) for e in both]),
            "spread": np.array(len(self.spread)),
        }
        if all(e.codes is not None for e in both):
            arrays["codes"] = np.array([e.codes for e in both])
        out = io.BytesIO()
        np.savez_compressed(out, **arrays)
        write_atomic(directory / FILE, out.getvalue())

    @classmethod
    def load(cls, directory: Path) -> Examples | None:
        """Those of a codebook; None where none were kept."""
        if not (directory / FILE).is_file():
            return None
        with np.load(directory / FILE, allow_pickle=False) as found:
            codes = found["codes"] if "codes" in found else [None] * len(found["frame"])
            both = [
                Example(str(clip), int(frame), unpack(true), unpack(made), true < INVALID, code, l1)
                for clip, frame, true, made, code, l1 in zip(
                    found["clip"], found["frame"], found["true"], found["made"], codes,
                    found["l1"].tolist(), strict=True,
                )
            ]  # fmt: skip
            cut = int(found["spread"])
        return cls(max(cut, len(both) - cut), both[:cut], both[cut:])
