"""tokenize: DepthStore + Codebook -> CodeStore."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path

import numpy as np

from depthtok.config import to_json
from depthtok.data import SHIFT, DepthKind
from depthtok.errors import StoreError
from depthtok.json_values import value_of, values_of
from depthtok.remote.repository import recorded
from depthtok.stores import codes, filling
from depthtok.stores.arrays import ArraySpec
from depthtok.stores.codebook import Codebook
from depthtok.stores.depth import DepthStore, StoredDepth
from depthtok.stores.origin import FRAMES
from depthtok.stores.part_writer import PartWriter
from depthtok.stores.parts import Part
from depthtok.stores.spec import StoreSpec
from pipelines.annotate.ahead import CodesAhead, disparity_blocks
from pipelines.config import TokenizeConfig
from pipelines.device import one_thread
from pipelines.probe import timed
from pipelines.stage import BAD_EPISODE, Advance, Probe, Stage, Worker, WorkPart, recording_failures
from pipelines.upstream import inherit, require_somewhere
from vqvae.codec import Codec

VERSION = 2  # 1 gave codes to cameras that an episode does not have
READ = 64  # frames read at a time: a multiple of the encoder's group size
READERS = 4  # threads that read and normalise for a GPU


@dataclass(frozen=True)
class TokenizeStage:
    """Codes for every frame of a DepthStore."""

    depth: DepthStore
    codebook: Codebook
    out: Path
    config: TokenizeConfig
    device: str
    quality: Mapping[str, object]  # verdict of the quality gate on the codebook
    partial: bool = False
    unit: str = "frames"

    @cached_property
    def cameras(self) -> tuple[str, ...]:
        """The chosen cameras, or all of the depth store."""
        names = self.config.camera or self.depth.cameras
        chosen = tuple(self.depth.cameras[self.depth.require_camera(name)] for name in names)
        if self.config.camera:
            require_somewhere(self.depth, chosen)
        return chosen

    @cached_property
    def spec(self) -> StoreSpec:
        depth = self.depth.spec
        what = {**to_json(self.config), "device": self.device.split(":")[0]}
        meta = about(depth, self.codebook, self.cameras, self.quality)
        locations = {**depth.place, "depth": str(self.depth.path.resolve())}
        locations["codebook"] = recorded(self.codebook.path.resolve())
        source = depth.fingerprint, depth.shards
        current = StoreSpec("codes", "tokenize", VERSION, what, meta, *source, locations)
        return filling.standing(self.out, current, [replace(current, stage_version=1)])

    def work(self) -> list[WorkPart]:
        self.depth.require_complete(partial=self.partial)
        return [WorkPart.same(part, len(self.cameras)) for part in self.depth.parts()]

    def arrays(self) -> Mapping[str, ArraySpec]:
        return codes.array_specs(self.cameras, self.codebook.grid)

    def build(self, device: str) -> Worker:
        one_thread()
        codec = Codec.load(self.codebook.path, self.device)

        def fill(work: WorkPart, writer: PartWriter, advance: Advance) -> None:
            part = self.depth.part(work.source)
            encode_part(codec, self.config, self.depth, part, self.cameras, writer, advance)

        return fill

    def probe(self, parts: Sequence[WorkPart]) -> Probe | None:
        """Encodes the first frames of a clip; codes are not compressed."""
        one_thread()
        codec = Codec.load(self.codebook.path, self.device)
        camera, size = self.cameras[:1], int(np.prod(self.codebook.grid))

        def make(work: WorkPart, row: int, frames: int) -> tuple[int, int]:
            clips = self.depth.clips_of(self.depth.part(work.source), camera)
            clip = next(islice(clips, row, None), None)
            if clip is None:  # the episodes before do not have this camera
                return 0, 0
            with suppress(*BAD_EPISODE):
                span = self.codebook.normalisation.range_of(clip.disparity_quantiles)
                disparity = clip.read(0, min(frames, len(clip))).to_disparity()
                encoded = len(codec.encode(disparity, span))
                return encoded, encoded * size
            return 0, 0

        return timed(make, parts)

    def finish(self) -> None:
        """Does nothing: the store is complete once all parts exist."""


_: type[Stage] = TokenizeStage


def about(
    depth: StoreSpec, book: Codebook, cameras: Sequence[str], quality: Mapping[str, object]
) -> dict[str, object]:
    """Metadata for readers of the codes. Raises `StoreError` if the depth is not of the codebook's
    size, `DepthKindError` if it is not of the kind of the codebook's fixed range."""
    book.normalisation.require(DepthKind(value_of(depth.about, "kind", str)))
    size = values_of(depth.about, "size", int)
    if size != book.size:
        raise StoreError(
            f"the depth is {size} px, the codebook is for {book.size} px",
            remedy=f"annotate with --size {book.size[0]}, or train a codebook on this depth",
        )
    shift = {SHIFT: depth.about[SHIFT]} if SHIFT in depth.about else {}
    return {
        "codebook": book.fingerprint,
        "codes": len(book.vectors),
        "grid": list(book.grid),
        "cameras": list(cameras),
        "transform": depth.about["transform"],
        "depth_kind": depth.about["kind"],
        **shift,
        "dataset": depth.about["dataset"],
        "fps": depth.about["fps"],
        "gate": dict(quality),
    }


def encode_part(
    codec: Codec,
    config: TokenizeConfig,
    depth: DepthStore,
    part: Part,
    cameras: Sequence[str],
    writer: PartWriter,
    advance: Advance,
) -> None:
    """Writes the codes of every clip in a part of a DepthStore. A GPU is kept busy by threads; on a
    CPU the encoder takes nearly all of the time."""
    writer.roots = (depth.path,)
    if FRAMES in part.meta:
        writer.meta[FRAMES] = part.meta[FRAMES]
    inherit(part, writer)
    clips = list(depth.clips_of(part, cameras, absent=True))
    if not (readers := _readers(codec)):
        _write(clips, len(cameras), partial(_read_codes, codec, config), codec, writer, advance)
        return
    with closing(CodesAhead(codec, config.sticky, clips, readers)) as stream:
        _write(clips, len(cameras), stream.codes, codec, writer, advance)


def _readers(codec: Codec) -> int:
    return READERS if codec.device.type == "cuda" else 0


def _write(
    clips: Sequence[StoredDepth],
    cameras: int,
    codes_of: Callable[[StoredDepth], Iterator[np.ndarray]],
    codec: Codec,
    writer: PartWriter,
    advance: Advance,
) -> None:
    """Writes the codes of episodes, each of which has a clip of each camera."""
    for start in range(0, len(clips), cameras):
        views = clips[start : start + cameras]
        index = views[0].key.index
        with recording_failures(writer, index):
            ranges = [_encode(codec, clip, codes_of, writer, advance) for clip in views]
            writer.end(index, len(views[0]), range=np.asarray(ranges, np.float32))
            for clip in views:
                if clip.absent:
                    writer.absent(clip.camera, index)


def _encode(
    codec: Codec,
    clip: StoredDepth,
    codes_of: Callable[[StoredDepth], Iterator[np.ndarray]],
    writer: PartWriter,
    advance: Advance,
) -> tuple[float, float]:
    """Writes the codes of a clip, zeros of an absent camera; returns its range, NaN of one."""
    if clip.absent:
        nothing = np.zeros((len(clip), *codec.codebook.grid), np.uint8)
        writer.append(codes.array_name(clip.camera), nothing)
        advance(len(clip))
        return (np.nan, np.nan)
    span = codec.codebook.normalisation.range_of(clip.disparity_quantiles)
    for indices in codes_of(clip):
        writer.append(codes.array_name(clip.camera), indices)
        advance(len(indices))
    return span


def _read_codes(codec: Codec, config: TokenizeConfig, clip: StoredDepth) -> Iterator[np.ndarray]:
    """The codes of a clip, a group at a time."""
    span = codec.codebook.normalisation.range_of(clip.disparity_quantiles)
    previous, done = None, 0
    for block in disparity_blocks(clip, READ, codec.group):
        indices = codec.encode(block, span, sticky=config.sticky, previous=previous, first=done)
        previous = indices[-1]
        done += len(indices)
        yield indices
