"""tokenize: DepthStore + Codebook -> CodeStore."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from depthtok import codes
from depthtok.arrays import ArraySpec
from depthtok.codebook import Codebook
from depthtok.config import to_json
from depthtok.depth import DepthStore, StoredDepth
from depthtok.errors import StoreError
from depthtok.parts import PartName, PartWriter
from depthtok.store import StoreSpec
from pipelines.ahead import disparity_blocks
from pipelines.annotate import inherit
from pipelines.config import TokenizeConfig
from pipelines.device import one_thread
from pipelines.stage import Advance, Worker, WorkPart, recording_failures

VERSION = 1
BLOCK = 32  # frames decoded at a time


@dataclass(frozen=True)
class TokenizeStage:
    """Codes for every frame of a DepthStore."""

    depth: DepthStore
    codebook: Codebook
    out: Path
    config: TokenizeConfig
    device: str
    quality: Mapping[str, object]  # what the gate said of the codebook
    partial: bool = False
    unit: str = "frames"

    @cached_property
    def cameras(self) -> tuple[str, ...]:
        names = self.config.camera or self.depth.cameras
        return tuple(self.depth.cameras[self.depth.require_camera(name)] for name in names)

    @cached_property
    def spec(self) -> StoreSpec:
        book = self.codebook
        if self.depth.size != book.size:
            raise StoreError(
                f"the depth in {self.depth.path} is {self.depth.size} px, the codebook is for "
                f"{book.size} px",
                remedy=f"annotate with --size {book.size[0]}, or train a codebook on this depth",
            )
        return StoreSpec(
            type="codes", stage="tokenize", stage_version=VERSION,
            what={**to_json(self.config), "device": self.device.split(":")[0]},
            about={
                "codebook": book.fingerprint,
                "codes": len(book.vectors),
                "grid": list(book.grid),
                "cameras": list(self.cameras),
                "transform": self.depth.transform.to_json(),
                "depth_kind": self.depth.kind.value,
                "dataset": self.depth.about["dataset"],
                "fps": self.depth.about["fps"],
                "gate": dict(self.quality),
            },
            upstream=self.depth.fingerprint, shards=self.depth.spec.shards,
            place={
                **self.depth.spec.place,
                "depth": str(self.depth.path.resolve()),
                "codebook": str(book.path.resolve()),
            },
        )  # fmt: skip

    def work(self) -> list[WorkPart]:
        self.depth.require_complete(partial=self.partial)
        return [
            WorkPart(
                PartName.parse(part.name), part.shard, len(part.frames),
                int(part.frames.sum()) * len(self.cameras), part.digest, part.name,
            )
            for part in self.depth.parts()
        ]  # fmt: skip

    def arrays(self) -> Mapping[str, ArraySpec]:
        return codes.array_specs(self.cameras, self.codebook.grid)

    def build(self, device: str) -> Worker:
        from vqvae.codec import Codec

        one_thread()
        codec = Codec.load(self.codebook.path, self.device)

        def fill(work: WorkPart, writer: PartWriter, advance: Advance) -> None:
            part = self.depth.part(work.source)
            inherit(part, writer)
            clips = list(self.depth.clips_of(part, self.cameras))
            for first in range(0, len(clips), len(self.cameras)):
                views = clips[first : first + len(self.cameras)]
                index = views[0].key.index
                with recording_failures(writer, index):
                    ranges = [self._encode(codec, clip, writer, advance) for clip in views]
                    writer.end(index, len(views[0]), range=np.asarray(ranges, np.float32))

        return fill

    def _encode(
        self, codec, clip: StoredDepth, writer: PartWriter, advance: Advance
    ) -> tuple[float, float]:
        span = self.codebook.normalisation.range_of(clip.disparity_quantiles)
        previous = None
        for block in disparity_blocks(clip, BLOCK):
            found = codec.encode(block, span, sticky=self.config.sticky, previous=previous)
            previous = found[-1]
            writer.append(codes.array_name(clip.camera), found)
            advance(len(found))
        return span

    def finish(self) -> None:
        """Nothing is left to do once all parts are there."""
