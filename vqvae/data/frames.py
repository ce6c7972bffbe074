"""Where training frames come from: clips of depth stores, normalised once into a memory-mapped
cache, and served as random crops.

A cached pixel is a uint16: 15 bits of normalised disparity over `LOW`..`HIGH` (steps of 6e-5), and
the top bit marks pixels that were invalid and have been filled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt16

from depthtok.config import digest
from depthtok.data import DepthClip
from depthtok.disk.digests import file_sha256
from depthtok.disk.files import commit_file, write_atomic
from depthtok.disk.temporaries import sweep
from depthtok.errors import ConfigError, CorruptPart, OutputError, SourceError
from depthtok.normalisation import HIGH, LOW, Normalisation
from vqvae.codec import fill_invalid
from vqvae.config import TrainingConfig
from vqvae.data.clips import ClipSource, DepthSequence, lengths_of
from vqvae.data.paste import Images, Masks, paste
from vqvae.data.ranges import range_of
from vqvae.data.shares import FrameShare, shares_of, weights_matter
from vqvae.data.sides import name_of

FRAMES, INDEX = "frames.u16", "frames.json"  # a cache's files
FORMAT = 2  # of its description
BLOCK = 32  # frames read at a time
SKIPPED_LISTED = 1000  # most clips that are listed as left out
INVALID = np.uint16(1 << 15)
"""The bit that marks a cached pixel as filled."""
_STEPS = (1 << 15) - 1
_REMAKE = "delete that folder; the same command rebuilds it"


@dataclass(frozen=True)
class CropBatch:
    """Crops for one training step."""

    images: Float32[np.ndarray, "B 1 c c"]
    valid: Bool[np.ndarray, "B 1 c c"]


@dataclass(frozen=True)
class _Crops:
    """Frame, top left corner and mirroring of each crop."""

    frames: Int64[np.ndarray, " B"]
    corners: Int64[np.ndarray, "B 2"]
    mirrored: Bool[np.ndarray, " B"]


class DepthCache:
    """Normalised frames in one memory-mapped file, built once."""

    def __init__(self, folder: Path, index: dict) -> None:
        self.index = index
        mapped = np.memmap(folder / FRAMES, np.uint16, "r", shape=tuple(index["shape"]))
        self.frames: UInt16[np.ndarray, "N H W"] = np.asarray(mapped)  # slices cost less than maps
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
        *,
        by_weight: bool = True,
    ) -> DepthCache:
        """Open the cache in `folder` if it was built from the same input, else build it. `limit`
        and `by_weight` as in `shares_of`.

        Clips that cannot be normalised are left out, and listed in `index["skipped"]`. Raises
        `SourceError` if none are left.
        """
        key = cache_key(sources, normalisation, size, limit, by_weight=by_weight)
        file = folder / INDEX
        index = _read_index(file) if file.is_file() else {}
        if index.get("key") == key:
            _require_frames(folder / FRAMES, index["sha256"])
            return cls(folder, index)
        sweep(folder)
        shares = shares_of(sources, limit, by_weight=by_weight)
        try:
            # A new file, so that a process that has mapped the old one can still read it.
            with commit_file(folder / FRAMES) as temporary, temporary.open("wb") as out:
                file.unlink(missing_ok=True)
                listed, skipped = _write(out, sources, normalisation, size, shares)
        except OSError as error:
            raise OutputError(
                f"cannot write the frame cache in {folder}: {error}",
                remedy="free some space, or lower training.frames",
            ) from error
        frames = sum(item["frames"] for item in listed)
        if not frames:
            raise SourceError(
                f"no clip can be used for training: {skipped[0][2] if skipped else 'none given'}",
                remedy="check the depth stores with `depthtok inspect`",
            )
        content = {"shape": [frames, size, size], "sources": listed, "skipped": skipped}
        sha256 = file_sha256(folder / FRAMES)
        index = {"format": FORMAT, "key": key, **content, "sha256": sha256}
        write_atomic(file, json.dumps({**index, "digest": digest(index)}))
        return cls(folder, index)

    def batch(
        self,
        config: TrainingConfig,
        cell: int,
        draw: Sequence[int],
        rank: int = 0,
        world: int = 1,
        *,
        parts: int = 0,
    ) -> CropBatch:
        """This rank's share of the crops determined by the numbers `draw` and the seed, each with
        `parts` of another crop pasted in front.

        Nothing else affects them, so a resumed run sees the same crops as an uninterrupted one.
        """
        rng = np.random.default_rng([config.seed, *draw])
        crops = self._draw(rng, config, cell)
        pasted = self._draw(rng, config, cell)
        mine = range(rank, config.batch, world)
        images, valid = self._crops(config, crops, mine)
        if parts:
            in_front = self._crops(config, pasted, mine)
            shapes = [np.random.default_rng([config.seed, *draw, i]) for i in mine]
            for _ in range(parts):
                images, valid = paste(images, valid, *in_front, cell, shapes)
        return CropBatch(images[:, None], valid[:, None])

    def _draw(self, rng: np.random.Generator, config: TrainingConfig, cell: int) -> _Crops:
        """Random positions of a batch of crops."""
        number = config.batch
        source = np.searchsorted(self._edges, rng.random(number), side="right")
        source = np.minimum(source, len(self._edges) - 1)
        frames = self._starts[source] + (
            rng.random(number) * (self._starts[source + 1] - self._starts[source])
        ).astype(np.int64)
        positions = (self.frames.shape[1] - config.crop) // cell + 1
        corners = rng.integers(positions, size=(number, 2)) * cell
        return _Crops(frames, corners, (rng.random(number) < 0.5) & config.flip)

    def _crops(
        self, config: TrainingConfig, crops: _Crops, mine: Sequence[int]
    ) -> tuple[Images, Masks]:
        packed = np.empty((len(mine), config.crop, config.crop), np.uint16)
        for crop, i in zip(packed, mine, strict=True):
            rows, columns = (slice(x, x + config.crop) for x in crops.corners[i])
            pixels = self.frames[crops.frames[i], rows, columns]
            crop[:] = pixels[:, ::-1] if crops.mirrored[i] else pixels
        return unpack(packed), packed < INVALID


def _read_index(file: Path) -> dict:
    """The cache's description; empty for one without a digest, by an older version, whose cache is
    built anew. Raises `CorruptPart` for one that was changed after it was written."""
    try:
        index = json.loads(file.read_bytes())
        stated = {"format", "digest"} & index.keys()
        sound = not stated or index.pop("digest", None) == digest(index)
    except (ValueError, AttributeError, RecursionError) as error:
        raise CorruptPart(f"{file} is damaged: {error}", remedy=_REMAKE) from error
    if not sound or (stated and index.get("format") != FORMAT):
        raise CorruptPart(f"{file} was changed after it was written", remedy=_REMAKE)
    return index if stated else {}


def _require_frames(file: Path, sha256: str) -> None:
    if not file.is_file() or file_sha256(file) != sha256:
        raise CorruptPart(f"{file} was changed after it was written", remedy=_REMAKE)


def pack(
    images: Float32[np.ndarray, "*n"], valid: Bool[np.ndarray, "*n"]
) -> UInt16[np.ndarray, "*n"]:
    """Normalised disparity and its mask, packed into 16 bits."""
    steps = np.rint((images - LOW) * (_STEPS / (HIGH - LOW))).astype(np.uint16)
    return np.where(valid, steps, steps | INVALID)


def unpack(packed: UInt16[np.ndarray, "*n"]) -> Float32[np.ndarray, "*n"]:
    """The normalised disparity of packed pixels."""
    return (packed & (INVALID - 1)).astype(np.float32) * np.float32((HIGH - LOW) / _STEPS) + LOW


def _write(
    out: BinaryIO,
    sources: Sequence[ClipSource],
    normalisation: Normalisation,
    size: int,
    shares: Sequence[FrameShare],
) -> tuple[list[dict[str, Any]], list[list[str]]]:
    """Write the frames of the shares; returns frame counts per source, with the weight of a frame
    that is written, and skipped clips with reasons."""
    listed: list[dict[str, Any]] = []
    skipped: list[list[str]] = []
    for source, share in zip(sources, shares, strict=True):
        first, start = out.tell(), 0
        lengths = lengths_of(source.clips)
        for number, frames in enumerate(lengths.tolist()):
            picked = np.arange(frames)
            if share.numbers is not None:
                inside = np.searchsorted(share.numbers, [start, start + frames])
                picked = share.numbers[slice(*inside)] - start
            start += frames
            if not len(picked) and frames:
                continue
            begin, clip = out.tell(), source.clips[number]
            try:
                for block in _normalised(clip, normalisation, size, picked):
                    out.write(block.tobytes())
            except SourceError as error:
                out.seek(begin)
                out.truncate()
                if len(skipped) < SKIPPED_LISTED:
                    skipped.append([name_of(source, clip), clip.camera, error.problem])
        frames = (out.tell() - first) // (size * size * 2)
        listed.append({"name": source.name, "weight": share.weight, "frames": frames})
    return listed, skipped


def _normalised(
    clip: DepthSequence, normalisation: Normalisation, size: int, wanted: np.ndarray
) -> Iterator[UInt16[np.ndarray, "n H W"]]:
    """The frames `wanted` of a clip, packed, in blocks."""
    bounds = range_of(clip, normalisation)
    for start in range(0, clip.frames, BLOCK):
        stop = min(start + BLOCK, clip.frames)
        picked = wanted[(wanted >= start) & (wanted < stop)] - start
        if len(picked):
            depth = clip.read(start, stop).to_disparity()
            _check_size(depth, size)
            values, valid = depth.values[picked], depth.valid[picked]
            images = normalisation.apply(values, bounds, valid)
            numbers = (start + picked).tolist()
            yield pack(fill_invalid(images, valid, numbers), valid)


def _check_size(depth: DepthClip, size: int) -> None:
    height, width = depth.values.shape[1:]
    if (height, width) != (size, size):
        raise ConfigError(
            f"depth is {height}x{width} px, the tokeniser takes {size}x{size}",
            remedy=f"annotate with --size {size} into another --out, or give train-vqvae the "
            "depth's own --size, where it is square and a power of two times --grid",
        )


def cache_key(
    sources: Sequence[ClipSource],
    normalisation: Normalisation,
    size: int,
    limit: int,
    *,
    parts: bool = True,
    by_weight: bool = True,
) -> str:
    """A key that identifies the content of a cache. Without `parts`, as it was made before what the
    stores' parts are was part of it; `by_weight` as in `shares_of`."""
    hashed = hashlib.sha256(json.dumps([normalisation.to_json(), size, limit]).encode())
    if by_weight and weights_matter(sources, limit):
        hashed.update(b"by weight")
    for source in sources:
        hashed.update(json.dumps([source.name, source.fingerprint, source.weight]).encode())
        if parts:
            hashed.update(source.content.encode())
        for clip in source.clips:
            hashed.update(f"\n{clip.key}|{clip.camera}|{clip.frames}".encode())
    return hashed.hexdigest()
