"""What a part was made from, and whether parts of different stores belong together.

A part of an EpisodeStore records in its meta

    made_from   of its shard: size, digest of the framing, episodes stated, records damaged
    frames      by view: a digest of all its frames, wherever their bytes lie, and of how the
                schema says that they are read

and every part of depth or codes, but for depth that was decoded from codes, hands down

    frames      of the views of the episodes that it was made from; also, by camera, digests of
                which episodes lack it (`absent`) and, where metres are by its focal length, of
                its `intrinsics`: what corrects these makes other depth of the same pictures

Depth and codes belong to the episodes that have the same frames, whatever became of actions, the
rest of the schema, or files since. Parts made before this was kept record nothing: whether they
belong is not known.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt32

from depthtok.errors import SourceUnavailable, as_type
from depthtok.json_values import JsonObject, value_of
from depthtok.sources.framing import is_same
from depthtok.sources.shards import Shard, status_of
from depthtok.stores.parts import Part
from depthtok.stores.stored_episode import View

MADE_FROM, FRAMES = "made_from", "frames"
ABSENT, INTRINSICS = "absent", "intrinsics"  # of a camera: digests beside those of its views
KINDS = ("rgb", "depth", "segmentation")  # of views


class FrameDigests:
    """Digests of the frames of each view, and of how they are read; filled episode by episode."""

    def __init__(self, views: Iterable[View]) -> None:
        self._hashes = {
            view.name: hashlib.sha256(json.dumps(view.to_json(), sort_keys=True).encode())
            for view in views
        }

    def add(self, index: int, spans: Sequence[UInt32[np.ndarray, "T 4"]]) -> None:
        """Adds length and CRC32C of the frames of episode `index`, for every view in order."""
        for sha256, rows in zip(self._hashes.values(), spans, strict=True):
            sha256.update(np.array([index, len(rows)], "<u4").tobytes())
            sha256.update(rows[:, 2:].astype("<u4").tobytes())

    def to_json(self) -> dict[str, str]:
        """By view, in hex."""
        return {view: sha256.hexdigest() for view, sha256 in self._hashes.items()}


def frames_of(
    meta: JsonObject, cameras: Iterable[str], kinds: Iterable[str] = KINDS
) -> dict[str, str]:
    """The digests of the frames of some cameras that a part records; {} where it does not."""
    views = {f"{camera}/{kind}" for camera in cameras for kind in kinds}
    return {view: digest for view, digest in _digests(meta).items() if view in views}


def _digests(meta: JsonObject) -> dict[str, str]:
    digests = as_type(dict, meta.get(FRAMES, {}))
    return {view: value_of(digests, view, str) for view in digests}


def inputs_of(part: Part, cameras: Sequence[str], names: Iterable[str]) -> dict[str, str]:
    """What a part of an EpisodeStore, whose `cameras` these are, has of what a part made from it
    records: digests by `CAMERA/KIND`, of a view, ABSENT or INTRINSICS. Without names that it has
    not; {} where it does not record its frames. Raises `CorruptPart`."""
    digests = _digests(part.meta)
    if not digests:
        return {}
    for name in names:
        camera, _, kind = name.rpartition("/")
        if kind == ABSENT:
            digests[name] = _absent_digest(part, camera)
        elif kind == INTRINSICS and camera in cameras:
            matrices = part.map(INTRINSICS)[:, cameras.index(camera)]
            digests[name] = hashlib.sha256(matrices.tobytes()).hexdigest()
    return {name: digests[name] for name in names if name in digests}


def recorded_inputs(part: Part) -> dict[str, str]:
    """The digests that a part of depth or codes records of what it was made from; {} where it does
    not. Former versions did not record ABSENT: those that the part itself names."""
    digests = _digests(part.meta)
    cameras = {name.rpartition("/")[0] for name in digests}
    return {f"{camera}/{ABSENT}": _absent_digest(part, camera) for camera in cameras} | digests


def _absent_digest(part: Part, camera: str) -> str:
    return hashlib.sha256(json.dumps(part.absent.get(camera, [])).encode()).hexdigest()


def same_frames(one: JsonObject, other: JsonObject) -> bool | None:
    """Whether two parts, by their meta, are of the same frames; None where it is not known.

    Views that only one of them has say nothing.
    """
    first, second = _digests(one), _digests(other)
    common = first.keys() & second.keys()
    return all(first[view] == second[view] for view in common) if common else None


def is_made_from(part: Part, source: Part) -> bool:
    """Whether a part was made from that of another store, or from another of the same frames. Two
    stores with one fingerprint (of one data set's schema and counts) differ in their parts."""
    return part.upstream == source.digest or bool(same_frames(part.meta, source.meta))


def shard_looks_other(meta: Mapping[str, Any], shard: Shard, root: Path, size: int) -> str:
    """How a shard of `size` bytes differs from the one that a part was made from, as far as can be
    told without reading it; "" where it does not, or the part does not say."""
    made_from, source = meta.get(MADE_FROM), meta["source"]
    if made_from is None:
        return ""
    if source not in (None, shard.path.relative_to(root).as_posix()):
        return f"another file: it was {source}"
    if size != made_from["size"]:
        return f"{size:,} bytes, not {made_from['size']:,}"
    if shard.episodes != made_from["episodes"]:
        return f"{shard.episodes} episodes are stated, not {made_from['episodes']}"
    return ""


def shard_differs(meta: Mapping[str, Any], shard: Shard, root: Path) -> str:
    """How a shard differs from the one that a part was made from; "" where it does not, or the part
    does not say. Reads the framing. Raises `SourceUnavailable` where the shard is not there."""
    status = status_of(shard.path)
    if status is None and shard.state == "absent":
        raise SourceUnavailable(f"{shard.path} is not there", remedy="download or restore it")
    differs = shard_looks_other(meta, shard, root, status.st_size if status else 0)
    if differs or MADE_FROM not in meta or not status:
        return differs
    return "" if is_same(shard.path, meta[MADE_FROM]) else "other bytes"
