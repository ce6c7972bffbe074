"""DepthStore: depth as it was estimated or measured, typed and unnormalised.

Arrays of a part, for every camera C: `depth/<C>` [N, h, w] as a compressed stream, and once
`quantiles` float32[E, cameras, 11]: the quantiles of each episode's valid depth.

How one value lies on disk is the store's `encoding`:

    uint16_mm   metres as whole millimetres (exact where the source has millimetres); 0 is invalid
    float16     any kind, to 11 bits (relative error at most 2^-11); -1 is invalid
    float32     metres as the source gave them; -1 is invalid
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Shaped

from depthtok.data import QUANTILES, SHIFT, DepthClip, DepthKind, EpisodeKey, ImageTransform
from depthtok.disk.files import slug
from depthtok.errors import ConfigError, SourceError, as_written, known_cameras
from depthtok.json_values import JsonObject, value_of, values_of
from depthtok.stores.arrays import ArraySpec
from depthtok.stores.parts import Part, require_within
from depthtok.stores.quantiles import QuantileCounter
from depthtok.stores.spec import ROOT, ROOT_REMEDY, as_size
from depthtok.stores.store import Store

LEAST = np.float32(2.0**-24)
"""The smallest float16 above 0."""
UNFIT = "does not fit the encoding"
"""In the reason of an episode that failed so: most likely its unit is wrong, or a placeholder."""


class DepthEncoding(StrEnum):
    """How a depth value lies on disk; see the top of this file."""

    UINT16_MM = "uint16_mm"
    FLOAT16 = "float16"
    FLOAT32 = "float32"

    @property
    def dtype(self) -> str:
        return "uint16" if self is DepthEncoding.UINT16_MM else self.value

    @property
    def attributes(self) -> JsonObject:
        """How stored values become depth, as the CF conventions say it: xarray decodes by them."""
        if self is DepthEncoding.UINT16_MM:
            return {"missing_value": 0, "scale_factor": 0.001, "units": "m"}
        return {"missing_value": -1.0}

    @property
    def error(self) -> str:
        """What is lost by storing, for people."""
        return {
            DepthEncoding.UINT16_MM: "at most 0.5 mm; none where the source has whole millimetres",
            DepthEncoding.FLOAT16: "relative, at most 2^-11 (0.05 %)",
            DepthEncoding.FLOAT32: "none",
        }[self]


def pack(clip: DepthClip, encoding: DepthEncoding) -> np.ndarray:
    """Depth as stored. Raises `SourceError` for values that the encoding cannot hold."""
    top = 65.5354 if encoding is DepthEncoding.UINT16_MM else 65504.0  # quantiles are float16's
    low, high = (float(f(clip.values)) if clip.values.size else 0.0 for f in (np.min, np.max))
    if not (low >= 0 and high <= top):
        raise SourceError(
            f"depth from {low:g} to {high:g} {UNFIT} {encoding} (0 to {top:g})"
            + _were_it_millimetres(clip.kind, low, high),
            remedy="check the unit of the depth in the data set's schema, and state there which "
            "values are no measurement (depth_invalid), and the largest depth (depth_max)",
        )
    if encoding is DepthEncoding.UINT16_MM:
        clip.require(DepthKind.METRES)
        millimetres = np.rint(clip.values.astype(np.float64) * 1000).astype(np.uint16)
        return np.where(clip.valid, np.maximum(millimetres, 1), np.uint16(0))
    values = clip.values
    if clip.kind.is_depth and encoding is DepthEncoding.FLOAT16:
        values = np.maximum(values, LEAST)  # rounded to 0 its disparity were infinite
    return np.where(clip.valid, values, np.float32(-1)).astype(encoding.dtype)


def _were_it_millimetres(kind: DepthKind, low: float, high: float) -> str:
    """Of "metres" that are a scene's once divided by 1000: which mistake that would be."""
    near, far = low / 1000, high / 1000
    if kind is not DepthKind.METRES or not (near >= 0 and 0.2 <= far <= 20):
        return ""
    return f". Millimetres called metres (depth_unit in the schema)? {near:.3g} to {far:.3g} m then"


def unpack(stored: np.ndarray, encoding: DepthEncoding, kind: DepthKind) -> DepthClip:
    """The inverse of `pack`."""
    values = stored.astype(np.float32)
    if encoding is DepthEncoding.UINT16_MM:
        values /= np.float32(1000)  # both are exact, so the quotient is rounded but once
        return DepthClip(values, stored > 0, kind)
    valid = values >= 0
    np.copyto(values, 0, where=~valid)
    return DepthClip(values, valid, kind)


def invalid_rows(
    frames: int, size: tuple[int, int], encoding: DepthEncoding, block: int = 64
) -> Iterator[np.ndarray]:
    """Stored rows without a valid pixel, `block` at a time: of a camera that is absent."""
    value = 0 if encoding is DepthEncoding.UINT16_MM else -1
    for start in range(0, frames, block):
        yield np.full((min(block, frames - start), *size), value, encoding.dtype)


class ClipQuantiles:
    """The quantiles of stored depth, block by block (float32 is rounded to float16 for this)."""

    def __init__(self, encoding: DepthEncoding) -> None:
        self._encoding = encoding
        self._dtype = "uint16" if encoding is DepthEncoding.UINT16_MM else "float16"
        self._counter = QuantileCounter(self._dtype)

    def add(self, stored: np.ndarray) -> None:
        """Counts the valid values of a block."""
        valid = stored[stored > 0] if self._dtype == "uint16" else stored[stored >= 0]
        self._counter.add(valid.astype(self._dtype))

    def values(self) -> Float32[np.ndarray, " 11"]:
        """In metres or disparity; NaN where no pixel is valid."""
        quantiles = self._counter.quantiles() or (np.nan,) * len(QUANTILES)
        scale = 0.001 if self._dtype == "uint16" else 1.0
        return (np.asarray(quantiles) * scale).astype(np.float32)


def array_name(camera: str) -> str:
    """The array of a camera's depth in a part."""
    return f"depth/{slug(camera)}"


def array_specs(
    cameras: Sequence[str], size: tuple[int, int], encoding: DepthEncoding
) -> dict[str, ArraySpec]:
    """The arrays of a part."""
    stored = encoding.attributes
    depth = ArraySpec(encoding.dtype, size, stream=True, axes=("y", "x"), attributes=stored)
    quantiles = ArraySpec(
        "float32",
        (len(cameras), len(QUANTILES)),
        per_episode=True,
        axes=("camera", "quantile"),
        attributes={"camera": list(cameras), "quantile": list(QUANTILES)},
    )
    return {**{array_name(name): depth for name in cameras}, "quantiles": quantiles}


class DepthStore(Store):
    """Depth clips, one per episode and camera."""

    TYPE = "depth"

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        with as_written(self.path / ROOT, ROOT_REMEDY):
            self.kind = DepthKind(value_of(self.about, "kind", str))
            self.encoding = DepthEncoding(value_of(self.about, "encoding", str))
            self.cameras = values_of(self.about, "cameras", str)
            self.size = as_size(self.about["size"])
            self.transform = ImageTransform.from_json(value_of(self.about, "transform", dict))
            relative = self.kind is DepthKind.RELATIVE_DEPTH
            self.shift = value_of(self.about, SHIFT, float) if relative else 0.0

    @property
    def kind_in_words(self) -> str:
        """The kind; of relative depth also what its disparity is."""
        if self.kind is not DepthKind.RELATIVE_DEPTH:
            return self.kind.value
        return f"relative depth; as disparity 1 / (z + {self.shift:g})"

    @property
    def estimator(self) -> JsonObject:
        """What made the depth, `name` first."""
        if self.spec.stage == "decode":
            return {"name": "decoded from codes", "codebook": self.spec.what["codebook"]}
        return value_of(self.spec.what, "estimator", dict)

    def require_camera(self, camera: str) -> int:
        """The index of a camera. Raises `ConfigError` with the names there are."""
        if camera not in self.cameras:
            raise ConfigError(
                f"{self.path} has no depth of camera {camera!r}",
                remedy=known_cameras(self.cameras),
            )
        return self.cameras.index(camera)

    def clips(self, camera: str | None = None) -> Iterator[StoredDepth]:
        """The clips of one camera, or of all, episode by episode, without absent cameras."""
        names = self.cameras if camera is None else (camera,)
        return (clip for part in self.parts() for clip in self.clips_of(part, names))

    def find_clip(self, key: EpisodeKey, camera: str) -> StoredDepth | None:
        """The clip of one camera in an episode, absent or not; None where there is no such
        episode. Raises `ConfigError` for a camera of no depth."""
        column = self.require_camera(camera)
        location = self.find(key)
        if location is None:
            return None
        part, row = location
        start, frames = int(part.starts[row]), int(part.frames[row])
        quantiles = tuple(self.table(part, "quantiles")[row, column].tolist())
        return StoredDepth(self, part, key, camera, start, frames, quantiles)

    def clips_of(
        self, part: Part, cameras: Sequence[str], *, absent: bool = False
    ) -> Iterator[StoredDepth]:
        """The clips of a part; with `absent` also those of absent cameras: no pixel is valid."""
        if not len(part.frames):
            return
        table = part.map("quantiles")
        for episode in part.episodes:
            key, start, frames = episode.key, episode.start, episode.frames
            for camera in cameras:
                if absent or not part.lacks(camera, key.index):
                    quantiles = tuple(table[episode.row, self.require_camera(camera)].tolist())
                    yield StoredDepth(self, part, key, camera, start, frames, quantiles)


@dataclass(frozen=True)
class StoredDepth:
    """The depth of one camera in one episode, read when it is asked for."""

    store: DepthStore
    part: Part
    key: EpisodeKey
    camera: str
    start: int  # row in the part
    frames: int
    quantiles: tuple[float, ...]  # at QUANTILES; NaN where no pixel is valid

    def __len__(self) -> int:
        return self.frames

    @property
    def absent(self) -> bool:
        """Whether the episode does not have this camera: no pixel is valid."""
        return self.part.lacks(self.camera, self.key.index)

    @property
    def disparity_quantiles(self) -> tuple[float, ...]:
        """`quantiles` of the clip's disparity, whatever the store's kind."""
        empty = np.empty((0, *self.store.size), np.float32)
        none = empty.astype(bool)
        clip = DepthClip(empty, none, self.store.kind, self.quantiles, self.store.shift)
        return clip.to_disparity().quantiles

    def read(self, start: int = 0, stop: int | None = None) -> DepthClip:
        """Frames `start` to `stop`, with the quantiles of the whole clip."""
        return self.unpacked(self.stored(start, self.frames if stop is None else stop))

    def stored(self, start: int, stop: int) -> Shaped[np.ndarray, "n H W"]:
        """Frames `start` to `stop` in the store's encoding, a half of their size in memory. Raises
        `SourceError` for frames that the clip does not have."""
        require_within(self.key, self.frames, start, stop)
        return self.part.read(array_name(self.camera), self.start + start, self.start + stop)

    def unpacked(self, rows: Shaped[np.ndarray, "n H W"]) -> DepthClip:
        """What `stored` gave, or some of its frames, with the quantiles of the whole clip."""
        clip = unpack(rows, self.store.encoding, self.store.kind)
        return DepthClip(clip.values, clip.valid, clip.kind, self.quantiles, self.store.shift)
