"""The quality report: how much a codebook loses, measured on clips not used in training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from depthtok.data import DepthClip, DepthKind
from depthtok.errors import SourceError
from depthtok.normalisation import Range
from vqvae.codec import Codec
from vqvae.data.clips import ClipSource, DepthSequence
from vqvae.data.frames import BLOCK
from vqvae.data.ranges import range_of
from vqvae.quality import metrics
from vqvae.quality.examples import Example, Examples
from vqvae.quality.metrics import Frames, Mask

NamedMasks = dict[str, Bool[np.ndarray, "T H W"]]
Masks = Callable[[DepthSequence, int, int], NamedMasks]
"""Regions by name (arm, gripper, objects) of frames start..stop of a clip; empty if unknown."""


@dataclass(frozen=True)
class _Block:
    """Consecutive frames of a clip in every form that the metrics need."""

    start: int  # the first new frame, in the clip
    new: slice  # the frames not in the previous block: all but the first, or all
    depth: DepthClip  # as stored
    images: Float32[np.ndarray, "T H W"]  # normalised disparity
    decoded: Float32[np.ndarray, "T H W"]  # reconstructed
    bypassed: Float32[np.ndarray, "T H W"]  # reconstructed without quantisation
    metres: Float32[np.ndarray, "T H W"] | None  # reconstructed, if the depth is in metres
    codes: UInt8[np.ndarray, "T h w"] | None  # None for a continuous codebook

    def examples(self, clip: str) -> Iterator[Example]:
        """The new frames, one by one."""
        for index in range(len(self.images))[self.new]:
            valid, true, decoded = self.depth.valid[index], self.images[index], self.decoded[index]
            l1 = float(np.abs(decoded - true)[valid].mean())
            codes = None if self.codes is None else self.codes[index]
            frame = self.start + index - self.new.start
            yield Example(clip, frame, true, decoded, valid, codes, l1)


def _blocks(codec: Codec, clip: DepthSequence, sticky: float) -> Iterator[_Block]:
    """A clip in blocks; each starts with the last frame of the previous one, to count flips."""
    bounds = range_of(clip, codec.codebook.normalisation)
    previous = None
    for start in range(0, clip.frames, BLOCK):
        begin = max(start - 1, 0)
        depth = clip.read(begin, min(start + BLOCK, clip.frames))
        codec.codebook.normalisation.require(depth.kind)
        disparity = depth.to_disparity()
        images = codec.prepare(disparity, bounds)
        bypassed = codec.bypass(images)
        codes, decoded = None, bypassed
        if codec.has_codes:
            codes = codec.encode(disparity, bounds, sticky=sticky, previous=previous)
            decoded = codec.decode(codes)
            previous = codes[-2] if len(codes) > 1 else None
        metres = None
        if depth.kind is DepthKind.METRES:
            metres = _to_metres(codec, decoded, bounds, disparity)
        new = slice(start - begin, None)
        yield _Block(start, new, depth, images, decoded, bypassed, metres, codes)


def _stands_still(clip: DepthSequence) -> bool:
    """Whether half of the image looks the same in the clip's first and last frame. A wrist camera
    has no static regions, though it may hover."""
    first, last = (clip.read(t, t + 1).to_disparity() for t in (0, clip.frames - 1))
    valid = first.valid & last.valid
    change = np.abs(last.values - first.values)[valid]
    low, *_, high = clip.disparity_quantiles
    return bool(len(change)) and float(np.median(change)) < metrics.STATIC_STEP * (high - low)


def _to_metres(codec: Codec, made: Frames, bounds: Range, disparity: DepthClip) -> Frames:
    """Reconstructed depth, m. Disparity is clamped to at least half the far end of the range."""
    rule = codec.codebook.normalisation
    back = rule.undo(made, bounds, like=disparity.values, valid=disparity.valid)
    return np.float32(1) / np.maximum(back, np.float32(bounds[0] / 2))


@dataclass
class Region:
    """Sums over the pixels of one mask."""

    l1: metrics.MeanError = field(default_factory=metrics.MeanError)
    edges: metrics.EdgeScore = field(default_factory=metrics.EdgeScore)
    depth: metrics.DepthErrors = field(default_factory=metrics.DepthErrors)
    depth_edges: metrics.EdgeScore = field(default_factory=metrics.EdgeScore)

    def report(self) -> dict:
        figures = {"disparity": {**self.l1.report(), **self.edges.report()}}
        if self.depth.pixels:
            figures["metres"] = {**self.depth.report(), **self.depth_edges.report()}
        return figures


class QualitySums:
    """Sums over blocks of one kind of depth."""

    def __init__(self, kind: DepthKind, codes: int) -> None:
        self.kind = kind
        metric = kind is DepthKind.METRES
        self.frames = 0
        self.l1 = metrics.MeanError()
        self.bypassed = metrics.MeanError()
        self.edges = metrics.EdgeScore()
        self.depth = metrics.DepthErrors()
        self.depth_edges = metrics.EdgeScore()
        self.regions: dict[str, Region] = {}
        self.use = metrics.CodeUse.of(codes)
        self.flips = metrics.Flips(metrics.STATIC_M if metric else metrics.STATIC_STEP)

    def add(self, block: _Block, masks: NamedMasks, *, still: bool) -> None:
        """Add a block with the masks of its new frames; `still`: its camera does not move."""
        new, valid = block.new, block.depth.valid[block.new]
        decoded, true = block.decoded[new], block.images[new]
        self.frames += len(true)
        self.l1.add(decoded, true, valid)
        self.bypassed.add(block.bypassed[new], true, valid)
        pair = metrics.edges_disparity(decoded, valid), metrics.edges_disparity(true, valid)
        self.edges.add(*pair)
        for name, mask in masks.items():
            region = self.regions.setdefault(name, Region())
            region.l1.add(decoded, true, valid & mask)
            region.edges.add(*pair, mask)
        if block.codes is not None:
            self.use.add(block.codes[new])
            if still:
                values = block.depth.values if self.kind is DepthKind.METRES else block.images
                self.flips.add(values, block.depth.valid, block.codes)
        if block.metres is not None:
            self._add_metres(block.metres[new], block.depth.values[new], valid, masks)

    def _add_metres(self, made: Frames, true: Frames, valid: Mask, masks: NamedMasks) -> None:
        self.depth.add(made, true, valid)
        pair = metrics.edges_metres(made, valid), metrics.edges_metres(true, valid)
        self.depth_edges.add(*pair)
        for name, mask in masks.items():
            self.regions[name].depth.add(made, true, valid & mask)
            self.regions[name].depth_edges.add(*pair, mask)

    def report(self) -> dict:
        figures = {
            "kind": str(self.kind),
            "frames": self.frames,
            "disparity": {**self.l1.report(), **self.edges.report()},
            "unquantised": self.bypassed.report(),
        }
        if self.use.frames:
            figures["codes"] = self.use.report()
            if self.flips.cells["static"]:
                figures["flips"] = self.flips.report()
            figures["histogram"] = self.use.counts.tolist()
        if self.depth.pixels:
            figures["metres"] = {**self.depth.report(), **self.depth_edges.report()}
        if self.regions:
            figures["regions"] = {name: r.report() for name, r in sorted(self.regions.items())}
        return figures


def assess(
    codec: Codec,
    sources: Sequence[ClipSource],
    *,
    masks: Masks | None = None,
    sticky: float = 0.0,
    pictures: int = 8,
) -> tuple[dict, Examples]:
    """The quality report over the clips of `sources`, streamed, as plain JSON values; and
    `pictures` example frames of each kind.

    Always: `disparity` (l1, edges; normalised), `unquantised` (l1 of the same networks with the
    quantiser bypassed). For a codebook with codes: `codes`, `histogram`, and `flips` over the clips
    with a static camera. For depth in metres: `metres`. `regions`: `disparity` and `metres` inside
    each mask. `failed` lists clips that cannot be read or encoded, which are not counted at all.
    Raises `SourceError` if no clip can be evaluated, `DepthKindError` for a mixture of metres and
    disparity.
    """
    sums: QualitySums | None = None
    examples = Examples(pictures)
    failed, episodes = [], set()
    for number, source in enumerate(sources, 1):
        # Stores of one data set, or of two with the same name, have episodes with equal names.
        prefix = f"store {number}: " if len(sources) > 1 else ""
        for clip in source.clips:
            name = f"{prefix}{clip.key}"
            try:
                sums, examples = _with_clip(codec, clip, name, sums, examples, masks, sticky)
            except SourceError as error:
                failed.append([name, clip.camera, error.problem])
                continue
            episodes.add(name)
    if sums is None:
        reason = failed[0][2] if failed else "none was given"
        raise SourceError(
            f"no clip could be evaluated: {reason}", remedy="see `depthtok inspect` of the store"
        )
    quality = {**sums.report(), "episodes": len(episodes), "failed": failed, "sticky": sticky}
    return quality, examples


def _with_clip(
    codec: Codec,
    clip: DepthSequence,
    name: str,
    sums: QualitySums | None,
    examples: Examples,
    masks: Masks | None,
    sticky: float,
) -> tuple[QualitySums | None, Examples]:
    """The sums and examples with one more clip; the arguments are not modified, because the clip's
    last block may still fail."""
    sums, examples = deepcopy(sums), examples.copy()
    number = len(codec.codebook.vectors)
    still = clip.frames > 0 and _stands_still(clip)
    for block in _blocks(codec, clip, sticky):
        sums = sums or QualitySums(block.depth.kind, number)
        block.depth.require(sums.kind)
        stop = block.start + len(block.images[block.new])
        regions = masks(clip, block.start, stop) if masks else {}
        sums.add(block, regions, still=still)
        examples.take(clip.frames, block.examples(f"{name} {clip.camera}"))
        if block.codes is not None:
            examples.look(block.images[block.new], block.codes[block.new], number)
    return sums, examples


def code_pictures(codec: Codec) -> Float32[np.ndarray, "K c c"]:
    """Each code decoded to normalised disparity: the middle cell of a 5x5 patch of that code."""
    number = len(codec.codebook.vectors)
    codes = np.arange(number, dtype=np.uint8)[:, None, None]
    patches = codec.decode(np.broadcast_to(codes, (number, 5, 5)))
    cell = patches.shape[1] // 5
    return patches[:, 2 * cell : 3 * cell, 2 * cell : 3 * cell]
