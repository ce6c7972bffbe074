"""Where training frames come from: clips of depth stores, split by episode, normalised once into a
memory-mapped cache, and dealt out as random crops.

A cached pixel is a uint16: 15 bits of normalised disparity over `LOW`..`HIGH` (steps of 6e-5), and
the top bit where the pixel is invalid and was filled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, UInt16

from depthtok.config import digest
from depthtok.data import DepthClip, DepthKind
from depthtok.errors import ConfigError, OutputError, SourceError
from depthtok.files import write_atomic
from depthtok.normalisation import HIGH, LOW, Normalisation
from vqvae.codec import fill_invalid
from vqvae.config import TrainingConfig

BLOCK = 32  # frames read at a time
_INVALID = np.uint16(1 << 15)
_STEPS = (1 << 15) - 1


@runtime_checkable
class DepthSequence(Protocol):
    """The depth of one camera in one episode, read when asked for. A store's clips are such."""

    key: object  # str(key) names the episode, the same for all its cameras
    camera: str
    frames: int
    quantiles: tuple[float, ...]  # at data.QUANTILES, in the clip's own kind

    def read(self, start: int, stop: int) -> DepthClip: ...


@dataclass(frozen=True)
class ClipSource:
    """The clips of one data set. A frame of weight 2 is drawn twice as often as one of weight 1."""

    name: str
    fingerprint: str
    clips: Sequence[DepthSequence]
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.weight >= 0:
            raise ConfigError(
                f"the weight {self.weight} of {self.name} is not a positive number",
                remedy="2 draws a frame of this data set twice as often as one of weight 1",
            )


@dataclass(frozen=True)
class Batch:
    """Crops for one training step."""

    images: Float32[np.ndarray, "B 1 c c"]
    valid: Bool[np.ndarray, "B 1 c c"]


def split(
    sources: Sequence[ClipSource], share: float, seed: int
) -> tuple[list[ClipSource], list[ClipSource]]:
    """Training and held-out clips. An episode's side is decided by a hash of its name, so that it
    never depends on order, nor on which other episodes there are; but each side gets one at least.

    Raises `ConfigError` for a single episode that cannot be on both sides.
    """
    places = {
        name: _place(name, seed)
        for name in sorted({_episode(source, clip) for source in sources for clip in source.clips})
    }
    if share == 0 or not places:
        return list(sources), []
    if len(places) == 1:
        raise ConfigError(
            "one episode cannot both train and judge",
            remedy="give more episodes, or set held_out = 0 to judge on the training data",
        )
    order = sorted(places, key=places.__getitem__)
    held = {name for name in order if places[name] < share} or {order[0]}
    if len(held) == len(order):
        held.remove(order[-1])
    sides = []
    for inside in (False, True):
        sides.append(
            [
                ClipSource(
                    source.name,
                    source.fingerprint,
                    [c for c in source.clips if (_episode(source, c) in held) is inside],
                    source.weight,
                )
                for source in sources
            ]
        )
    return sides[0], sides[1]


def _episode(source: ClipSource, clip: DepthSequence) -> str:
    return f"{source.name}|{clip.key}"


def _place(name: str, seed: int) -> float:
    drawn = hashlib.sha256(f"{seed}|{name}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") / 2**64


def disparity_quantiles(clip: DepthSequence) -> tuple[float, ...]:
    """A clip's quantiles in disparity. Raises `SourceError` for a clip without frames."""
    if clip.frames == 0:
        raise SourceError(f"{clip.key} {clip.camera} has no frames", remedy="leave it out")
    first = clip.read(0, 1)
    whole = DepthClip(first.values[:0], first.valid[:0], first.kind, tuple(clip.quantiles))
    return whole.to_disparity().quantiles


def fit_normalisation(
    name: str, metric_range: tuple[float, float], sources: Sequence[ClipSource]
) -> Normalisation:
    """The normalisation `name`, its constants taken from training clips where it has any."""
    if name == "metric":
        for source in sources:
            for clip in source.clips[:1]:
                clip.read(0, 1).require(DepthKind.METRES)
        return Normalisation(name, lo=metric_range[0], hi=metric_range[1])
    if name == "dataset":
        rule = Normalisation()
        ranges = [rule.range_of(disparity_quantiles(c)) for s in sources for c in s.clips]
        return Normalisation(name, lo=min(r[0] for r in ranges), hi=max(r[1] for r in ranges))
    return Normalisation(name)


class FrameCache:
    """Normalised frames in one memory-mapped file, which is built once."""

    def __init__(self, folder: Path, index: dict) -> None:
        self.index = index
        self.frames: UInt16[np.ndarray, "N H W"] = np.memmap(
            folder / "frames.u16", np.uint16, "r", shape=tuple(index["shape"])
        )
        shares = np.array([s["frames"] * s["weight"] for s in index["sources"]], np.float64)
        self._edges = np.cumsum(shares / shares.sum())
        self._starts = np.cumsum([0] + [s["frames"] for s in index["sources"]])

    def __len__(self) -> int:
        return len(self.frames)

    @classmethod
    def build(
        cls,
        folder: Path,
        sources: Sequence[ClipSource],
        normalisation: Normalisation,
        size: int,
        limit: int,
    ) -> FrameCache:
        """Open the cache in `folder` if it was built from the same, else build it.

        Clips that cannot be normalised are left out, and listed in `index["skipped"]`. Raises
        `SourceError` where none is left.
        """
        key = _cache_key(sources, normalisation, size, limit)
        file = folder / "frames.json"
        if file.is_file() and (index := json.loads(file.read_text()))["key"] == key:
            return cls(folder, index)
        folder.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        total = sum(clip.frames for source in sources for clip in source.clips)
        share = min(1.0, limit / total) if limit and total else 1.0
        try:
            with (folder / "frames.u16").open("wb") as out:
                listed, skipped = _write(out, sources, normalisation, size, share)
        except OSError as error:
            raise OutputError(
                f"cannot write the frame cache in {folder}: {error}",
                remedy="free some space, lower training.frames, or set another --work",
            ) from error
        frames = sum(item["frames"] for item in listed)
        if not frames:
            raise SourceError(
                f"no clip can be trained on: {skipped[0][2] if skipped else 'none given'}",
                remedy="check the depth stores with `depthtok inspect`",
            )
        index = {"key": key, "shape": [frames, size, size], "sources": listed, "skipped": skipped}
        write_atomic(file, json.dumps(index))
        return cls(folder, index)

    def batch(
        self, config: TrainingConfig, cell: int, draw: Sequence[int], rank: int = 0, world: int = 1
    ) -> Batch:
        """The crops that the numbers `draw` (with the seed) stand for; this rank's share of them.

        Drawn from nothing else, so a resumed training sees what the first would have seen.
        """
        rng = np.random.default_rng([config.seed, *draw])
        number, crop = config.batch, config.crop
        source = np.searchsorted(self._edges, rng.random(number), side="right")
        source = np.minimum(source, len(self._edges) - 1)
        frames = self._starts[source] + (
            rng.random(number) * (self._starts[source + 1] - self._starts[source])
        ).astype(np.int64)
        places = (self.frames.shape[1] - crop) // cell + 1
        corners = rng.integers(places, size=(number, 2)) * cell
        mirrored = rng.random(number) < 0.5
        images = np.empty((len(range(rank, number, world)), 1, crop, crop), np.float32)
        valid = np.empty(images.shape, bool)
        for row, i in enumerate(range(rank, number, world)):
            top, left = corners[i]
            packed = self.frames[frames[i], top : top + crop, left : left + crop]
            if config.flip and mirrored[i]:
                packed = packed[:, ::-1]
            images[row, 0] = unpack(packed)
            valid[row, 0] = packed < _INVALID
        return Batch(images, valid)


def pack(
    images: Float32[np.ndarray, "T H W"], valid: Bool[np.ndarray, "T H W"]
) -> UInt16[np.ndarray, "T H W"]:
    """Normalised disparity and its mask in 16 bits."""
    steps = np.rint((images - LOW) * (_STEPS / (HIGH - LOW))).astype(np.uint16)
    return np.where(valid, steps, steps | _INVALID)


def unpack(packed: UInt16[np.ndarray, "*n"]) -> Float32[np.ndarray, "*n"]:
    """Normalised disparity again."""
    return (packed & (_INVALID - 1)).astype(np.float32) * np.float32((HIGH - LOW) / _STEPS) + LOW


def _write(
    out: BinaryIO,
    sources: Sequence[ClipSource],
    normalisation: Normalisation,
    size: int,
    share: float,
) -> tuple[list[dict], list[list[str]]]:
    """Write all frames; returns frames by source, and the clips left out with their reasons."""
    listed, skipped = [], []
    for source in sources:
        first = out.tell()
        for clip in source.clips:
            begin = out.tell()
            try:
                for block in _normalised(clip, normalisation, size, share):
                    out.write(block.tobytes())
            except SourceError as error:
                out.seek(begin)
                out.truncate()
                skipped.append([_episode(source, clip), clip.camera, error.problem])
        frames = (out.tell() - first) // (size * size * 2)
        listed.append({"name": source.name, "weight": source.weight, "frames": frames})
    return listed, skipped


def _normalised(
    clip: DepthSequence, normalisation: Normalisation, size: int, share: float
) -> Iterator[UInt16[np.ndarray, "n H W"]]:
    """A clip's packed frames in blocks; of `share` < 1 as many, evenly spread."""
    bounds = normalisation.range_of(disparity_quantiles(clip))
    places = np.linspace(0, clip.frames - 1, max(1, round(share * clip.frames)))
    wanted = np.unique(places.astype(int))
    for start in range(0, clip.frames, BLOCK):
        stop = min(start + BLOCK, clip.frames)
        picked = wanted[(wanted >= start) & (wanted < stop)] - start
        if len(picked):
            depth = clip.read(start, stop).to_disparity()
            _check_size(depth, size)
            values, valid = depth.values[picked], depth.valid[picked]
            images = normalisation.apply(values, bounds, valid)
            yield pack(fill_invalid(images, valid), valid)


def _check_size(depth: DepthClip, size: int) -> None:
    if depth.values.shape[1:] != (size, size):
        raise ConfigError(
            f"depth of {depth.values.shape[1:]} px, the tokeniser takes {size}x{size}",
            remedy="annotate at this size (--size), or set network.size",
        )


def _cache_key(
    sources: Sequence[ClipSource], normalisation: Normalisation, size: int, limit: int
) -> str:
    listed = [
        [s.name, s.fingerprint, s.weight, [[str(c.key), c.camera, c.frames] for c in s.clips]]
        for s in sources
    ]
    return digest([listed, normalisation.to_json(), size, limit])
