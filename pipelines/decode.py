"""decode: CodeStore + Codebook -> DepthStore of the reconstructed disparity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from depthtok.data import CodeGrid, DepthClip, DepthKind
from depthtok.errors import ConfigError
from depthtok.stores import depth, filling
from depthtok.stores.arrays import ArraySpec
from depthtok.stores.codebook import Codebook
from depthtok.stores.codes import CodeStore
from depthtok.stores.depth import ClipQuantiles, DepthEncoding
from depthtok.stores.part_writer import PartWriter
from depthtok.stores.parts import PartEpisode
from depthtok.stores.spec import StoreSpec
from pipelines.device import one_thread
from pipelines.probe import packed_bytes, timed
from pipelines.stage import Advance, Probe, Worker, WorkPart, recording_failures
from pipelines.upstream import inherit
from vqvae.codec import Codec

VERSION = 2  # 1 decoded codes of cameras that an episode does not have
BLOCK = 64  # frames decoded at a time
ENCODING = DepthEncoding.FLOAT16


@dataclass(frozen=True)
class DecodeStage:
    """Disparity for every grid of a CodeStore. Negative disparity becomes 0 (infinitely far)."""

    codes: CodeStore
    codebook: Codebook
    out: Path
    device: str
    partial: bool = False
    unit: str = "frames"

    @cached_property
    def spec(self) -> StoreSpec:
        """As `Stage.spec`. Raises `ConfigError` for codes whose ranges are not stored."""
        self.codes.require_codebook(self.codebook.fingerprint)
        if self.codebook.normalisation.name == "per_frame":
            raise ConfigError(
                "codes with per_frame normalisation cannot be decoded: their ranges are not stored",
                remedy="use a codebook with clip_quantile normalisation if you need to decode",
            )
        codes = self.codes
        what = {"codebook": self.codebook.fingerprint, "device": self.device.split(":")[0]}
        about = {
            "kind": DepthKind.DISPARITY.value,
            "encoding": ENCODING.value,
            "error": ENCODING.error,
            "cameras": list(codes.cameras),
            "size": list(self.codebook.size),
            "transform": codes.transform.to_json(),
            "dataset": codes.about["dataset"],
            "fps": codes.about["fps"],
        }
        locations = {**codes.spec.place, "codes": str(codes.path.resolve())}
        if codes.origin.startswith("hf://"):
            locations["codes_from"] = codes.origin
        source = codes.fingerprint, codes.spec.shards
        current = StoreSpec("depth", "decode", VERSION, what, about, *source, locations)
        return filling.standing(self.out, current, [replace(current, stage_version=1)])

    def work(self) -> list[WorkPart]:
        self.codes.require_complete(partial=self.partial)
        return [WorkPart.same(part, len(self.codes.cameras)) for part in self.codes.parts()]

    def arrays(self) -> Mapping[str, ArraySpec]:
        return depth.array_specs(self.codes.cameras, self.codebook.size, ENCODING)

    def build(self, device: str) -> Worker:
        one_thread()
        codec = Codec.load(self.codebook.path, self.device)

        def fill(work: WorkPart, writer: PartWriter, advance: Advance) -> None:
            part = self.codes.part(work.source)
            inherit(part, writer)
            for episode in part.episodes:
                with recording_failures(writer, episode.key.index):
                    index = episode.key.index
                    absent = [name for name in self.codes.cameras if part.lacks(name, index)]
                    quantiles = [
                        self._nothing(episode, camera, writer, advance)
                        if camera in absent
                        else self._decode(codec, episode, camera, writer, advance)
                        for camera in self.codes.cameras
                    ]
                    writer.end(index, episode.frames, quantiles=np.stack(quantiles))
                    for camera in absent:
                        writer.absent(camera, index)

        return fill

    def _decode(
        self, codec: Codec, episode: PartEpisode, camera: str, writer: PartWriter, advance: Advance
    ) -> np.ndarray:
        """Writes one clip; returns the quantiles of its disparity."""
        grid = self.codes.grid_of(episode.key, camera)
        quantiles = ClipQuantiles(ENCODING)
        for start in range(0, episode.frames, BLOCK):
            packed = self._packed(codec, grid, slice(start, start + BLOCK))
            quantiles.add(packed)
            writer.append(depth.array_name(camera), packed)
            advance(len(packed))
        return quantiles.values()

    def _packed(self, codec: Codec, grid: CodeGrid, frames: slice) -> np.ndarray:
        """Disparity of some frames, as it is stored."""
        disparity = codec.decode_disparity(grid.codes[frames], grid.range)
        clip = DepthClip.of(np.maximum(disparity, 0), DepthKind.DISPARITY)
        return depth.pack(clip, ENCODING)

    def _nothing(
        self, episode: PartEpisode, camera: str, writer: PartWriter, advance: Advance
    ) -> np.ndarray:
        """Writes the invalid rows of an absent camera; returns the quantiles of nothing."""
        for rows in depth.invalid_rows(episode.frames, self.codebook.size, ENCODING):
            writer.append(depth.array_name(camera), rows)
        advance(episode.frames)
        return ClipQuantiles(ENCODING).values()

    def probe(self, parts: Sequence[WorkPart]) -> Probe | None:
        """Decodes and packs the first frames of a clip."""
        one_thread()
        codec = Codec.load(self.codebook.path, self.device)

        def make(work: WorkPart, row: int, frames: int) -> tuple[int, int]:
            key = self.codes.part(work.source).episodes[row].key
            grids = (self.codes.find_grid(key, camera) for camera in self.codes.cameras)
            grid = next((grid for grid in grids if grid is not None), None)
            if grid is None:
                return 0, 0
            packed = self._packed(codec, grid, slice(frames))
            return len(packed), packed_bytes(packed)

        return timed(make, parts)

    def finish(self) -> None:
        """Does nothing: the store is complete once all parts exist."""
