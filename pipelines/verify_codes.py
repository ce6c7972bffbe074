"""Verifies the codes of a store against its codebook, by re-encoding a sample."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from depthtok.data import CodeGrid
from depthtok.errors import CorruptPart
from depthtok.json_values import number_of
from depthtok.stores.codebook import Codebook
from depthtok.stores.codes import CodeStore
from depthtok.stores.depth import DepthStore, StoredDepth
from vqvae.codec import Codec
from vqvae.data.clips import StoredClips

BLOCK = 64  # frames decoded at a time


def verify_sample(
    store: CodeStore, depth: DepthStore, book: Codebook, device: str, number: int
) -> int:
    """Re-encodes `number` clips of the existing parts, evenly spread; returns how many it could.

    Raises `CorruptPart` if a code or a range differs, `StaleStore` for another codebook.
    """
    store.require_codebook(book.fingerprint)
    codec, sticky = Codec.load(book.path, device), number_of(store.spec.what, "sticky") or 0.0
    clips = StoredClips(depth, store.cameras, parts=store.part_names)
    checked, count = 0, min(number or len(clips), len(clips))
    for index in np.linspace(0, len(clips) - 1, count).astype(np.int64).tolist():
        clip = clips[index]
        if clip.key not in store or store.absent(clip.key, clip.camera):  # recorded, both
            continue
        _compare(store, clip, store.grid_of(clip.key, clip.camera), codec, sticky)
        checked += 1
    return checked


def _compare(
    store: CodeStore, clip: StoredDepth, grid: CodeGrid, codec: Codec, sticky: float
) -> None:
    span = codec.codebook.normalisation.range_of(clip.disparity_quantiles)
    ranges = np.asarray([span, grid.range], np.float32)
    same_range = np.array_equal(ranges[0], ranges[1])
    previous: UInt8[np.ndarray, "h w"] | None = None
    for start in range(0, clip.frames, BLOCK):
        block = clip.read(start, min(start + BLOCK, clip.frames)).to_disparity()
        codes = codec.encode(block, span, sticky=sticky, previous=previous)
        previous = codes[-1]
        changed = int((codes != grid.codes[start : start + BLOCK]).sum())
        if changed or not same_range:
            raise CorruptPart(
                f"{store.path}: {clip.key}, {clip.camera}: {changed} of {codes.size} codes from "
                f"frame {start} on differ from those that its codebook gives now",
                remedy="check the depth and the codes with `depthtok verify`; on another kind of "
                "device or torch a few codes in a thousand may differ",
            )
