"""Episodes and codes that belong together: one data set of a mixture.

Whole stores are looked at part by part, so that millions of episodes are joined in seconds.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int64

from depthtok.data import ImageTransform
from depthtok.errors import ConfigError, MissingParts, StaleStore, did_you_mean
from depthtok.held_out import BEFORE, KEYED, limits, places
from depthtok.log import warn
from depthtok.meaning import Meaning
from depthtok.orientation import Orientation
from depthtok.stores.agreement import GripperChange
from depthtok.stores.origin import same_frames
from depthtok.stores.parts import ShardKey
from depthtok.stores.statistics import Statistics
from vla.config import Config
from vla.data.crops import DepthCrops
from vla.data.frames import FrameCache
from vla.data.meanings import change_of, require_range
from vla.data.normalise import Norms, Scale
from vla.data.pixels import DepthTargets, PixelGrids
from vla.data.stores import AnyStore, Codes, EpisodePart, Episodes


@dataclass(frozen=True)
class Member:
    """One data set of a mixture. `episodes_used` are the numbers of the episodes to draw from.

    `frames` spares decoding. `weight` is how often each step is drawn in an epoch: 2 twice, 0.5
    every other time. `cameras` are its own names of the model's cameras, in the same order.
    """

    name: str
    episodes: Episodes
    codes: Codes | DepthCrops | None
    norms: Norms
    episodes_used: Int64[np.ndarray, " E"]
    left_out: int = 0  # episodes without codes
    weight: float = 1.0
    frames: FrameCache | None = None
    change: GripperChange | None = None  # of every action, before it is normalised
    statistics: Statistics | None = None  # of all its actions and states
    cameras: tuple[str, ...] = ()

    def require_codes(self) -> Codes | DepthCrops:
        """Its depth targets, which there are wherever depth is trained."""
        assert self.codes is not None
        return self.codes

    def orientations(self, names: Sequence[str]) -> dict[str, Orientation]:
        """How its pictures are published, by the model's `names` of its cameras."""
        published = self.episodes.cameras
        pairs = zip(names, self.cameras, strict=True)
        return {name: published[camera].orientation for name, camera in pairs}

    @property
    def meaning(self) -> Meaning:
        """What its numbers mean once they are a sample's."""
        meaning = self.episodes.meaning
        return replace(meaning, gripper=self.change.target) if self.change else meaning


def member(
    name: str,
    episodes: Episodes,
    codes: Codes | DepthCrops | None,
    config: Config,
    *,
    codebook: str = "",
    weight: float = 1.0,
    only: Sequence[int] | Int64[np.ndarray, " N"] | None = None,
    partial: bool = False,
    frames: FrameCache | None = None,
    cameras: Sequence[str] | None = None,
    begun: bool = False,
) -> Member:
    """Joins episodes with their codes and checks that they belong together.

    `codebook` is the fingerprint that the codes must be of; `only` limits the episodes, by number;
    `cameras` are the data set's own names of the model's, where they differ.
    Episodes whose codes failed, or would, are left out and counted; none may be left. A run that
    was `begun` before grippers were checked goes on, with a warning. Raises `ConfigError`,
    `StaleStore` (other codebook, codes of another picture), `MissingParts`.
    """
    numbers = np.arange(len(episodes.lengths)) if only is None else np.asarray(only, np.int64)
    member_cameras = tuple(config.data.cameras if cameras is None else cameras)
    used = numbers
    if not config.model.depth.uses_depth:
        codes = None
    else:
        codes = _checked_codes(name, codes, config, codebook, partial, member_cameras)
        used = numbers[held_by(codes, episodes)[numbers]]
        if isinstance(codes, DepthTargets):
            gone = codes.without_range(member_cameras[: config.model.depth.cameras])
            keys = (episodes.episode(number).key for number in (used.tolist() if gone else ()))
            used = np.delete(used, [row for row, key in enumerate(keys) if key in gone])
    _check_shapes(name, episodes, config, member_cameras)
    stats = episodes.statistics()
    try:
        require_range(name, episodes.meaning, stats.action)
    except ConfigError as error:
        if not begun:
            raise
        warn(f"{error.problem}; this run was begun before that was checked, and goes on")
    change = change_of(name, episodes.meaning, config)
    norms = Norms(
        Scale.of(stats.action, config.data.action_norm, episodes.gripper).changed(change),
        Scale.of(stats.proprio, config.data.proprio_norm),
    )
    left_out = len(numbers) - len(used)
    return Member(
        name, episodes, codes, norms, used, left_out, weight, frames, change, stats, member_cameras
    )


def _check_shapes(name: str, episodes: Episodes, config: Config, cameras: Sequence[str]) -> None:
    for camera in cameras:
        if camera not in episodes.cameras:
            raise ConfigError(
                f"{name} has no camera {camera!r}",
                remedy=did_you_mean(camera, list(episodes.cameras)),
            )
    for what in ("action_dim", "proprio_dim"):
        have, want = getattr(episodes, what), getattr(config.model, what)
        if have != want and not (what == "proprio_dim" and want == 0):
            raise ConfigError(
                f"{name} has {what} {have}, the model {want}", remedy=f"set model.{what} = {have}"
            )


def _checked_codes(
    name: str,
    codes: Codes | DepthCrops | None,
    config: Config,
    codebook: str,
    partial: bool,
    cameras: Sequence[str],
) -> Codes | DepthCrops:
    """The targets of `member`, which fit the model and the codebook."""
    depth = config.model.depth
    if codes is None:
        raise ConfigError(
            f"{name} has no codes, and the model's depth expert is trained on them",
            remedy="give --codes, or set model.depth.target = 'none'",
        )
    if (depth.target == "pixels") != isinstance(codes, PixelGrids):
        raise ConfigError(
            f"{name} gives {type(codes).__name__} for the depth target {depth.target!r}",
            remedy="pixels come from a DepthStore, all other targets from a CodeStore",
        )
    if codes.codebook != codebook:
        raise StaleStore(
            f"the codes of {name} are of codebook {codes.codebook[:12]}, not {codebook[:12]}",
            remedy="give the codebook that made them, or tokenize again",
        )
    if replace(codes.transform, size=None) != ImageTransform():
        raise StaleStore(
            f"the codes of {name} describe a changed picture: {codes.transform.to_json()}",
            remedy="tokenize depth of the whole picture, as published",
        )
    if codes.grid != (depth.grid, depth.grid):
        raise StaleStore(
            f"the codes of {name} are {codes.grid[0]}x{codes.grid[1]} grids, the model predicts"
            f" {depth.grid}x{depth.grid}",
            remedy=f"set model.depth.grid = {codes.grid[0]}",
        )
    for camera in cameras[: depth.cameras]:
        if camera not in codes.cameras:
            raise ConfigError(
                f"{name} has no codes of camera {camera!r}",
                remedy="list cameras with codes first, or lower model.depth.cameras",
            )
    if codes.missing() and not partial:
        raise MissingParts(
            f"the codes of {name} lack {len(codes.missing())} parts",
            remedy="run the command that made them again, or use what is there with --partial",
        )
    return codes


def held_by(codes: AnyStore, episodes: AnyStore, what: str = "codes") -> Bool[np.ndarray, " E"]:
    """Which of the episodes, in their order, have codes, or `what` is of each.

    Raises `StaleStore` for codes of another data set, of episodes of other lengths (two runs of
    `depthtok collect` give their episodes equal names), or of other frames: the source changed, and
    only one of them was made anew.
    """
    parts: dict[ShardKey, list[EpisodePart]] = {}
    for part in codes.parts():
        parts.setdefault(part.shard, []).append(part)
    marks: list[Bool[np.ndarray, " E"]] = []
    others: list[ShardKey] = []
    for part in episodes.parts():
        if any(same_frames(of.meta, part.meta) is False for of in parts.get(part.shard, ())):
            others.append(part.shard)
            continue
        if parts and part.shard not in parts:
            _require_same_dataset(next(iter(parts)), part.shard)
        frames = _frames(parts.get(part.shard, ()), part.indices)
        wrong = np.flatnonzero((frames >= 0) & (frames != part.frames))
        if len(wrong):
            row = int(wrong[0])
            raise StaleStore(
                f"{part.shard.episode(int(part.indices[row]))} has {part.frames[row]} frames, its "
                f"{what} are for {frames[row]}",
                remedy=f"give the {what} that were made from these very episodes",
            )
        marks.append(frames >= 0)
    if others:
        raise StaleStore(
            f"the {what} of {len(others)} of {len(others) + len(marks)} shards are of other frames "
            f"than the episodes (first: {others[0].split} {others[0].shard:05d}): the data set, "
            "or how its schema reads them, changed between them",
            remedy="run `depthtok convert`, `annotate` and `tokenize` again, as before: each makes "
            "just the parts that changed anew; after an edit of the schema give the last two "
            "another --out",
        )
    return np.concatenate(marks)


def of_unknown_origin(codes: AnyStore, episodes: AnyStore) -> int:
    """How many of the episodes' parts have codes of which it is not known whether they are of these
    very frames: they, or the episodes, were made by a depthtok that did not record it."""
    parts: dict[ShardKey, list[EpisodePart]] = {}
    for part in codes.parts():
        parts.setdefault(part.shard, []).append(part)
    return sum(
        any(same_frames(of.meta, part.meta) is None for of in parts.get(part.shard, ()))
        for part in episodes.parts()
    )


def _frames(
    parts: Sequence[EpisodePart], indices: Int64[np.ndarray, " E"]
) -> Int64[np.ndarray, " E"]:
    """How long each of a shard's episodes is in the parts; -1 where they do not hold it."""
    lengths = np.full(len(indices), -1)
    for part in parts:  # whose indices ascend
        row = np.searchsorted(part.indices, indices).clip(max=len(part.indices) - 1)
        present = (
            part.indices[row] == indices if len(part.indices) else np.zeros(len(indices), bool)
        )
        lengths[present] = part.frames[row[present]]
    return lengths


def _require_same_dataset(codes: ShardKey, episodes: ShardKey) -> None:
    of_episodes, of_codes = ((key.dataset, key.version) for key in (episodes, codes))
    if of_episodes != of_codes:
        raise StaleStore(
            f"the codes are of {' '.join(of_codes)}, the episodes of {' '.join(of_episodes)}",
            remedy="give --codes in the order of --episodes, each the codes of its own data set",
        )


def held_out(
    members: Sequence[Member], share: float, rule: str = KEYED
) -> list[Bool[np.ndarray, " _"]]:
    """Which of each member's episodes are held out, in the order of `episodes_used`.

    By the one rule of `depthtok.held_out`; or by `BEFORE`, which runs keep that record none.
    """
    if rule == BEFORE:
        return [_held_out_before(m.episodes, share)[m.episodes_used] for m in members]
    positions = [_positions(m.episodes)[m.episodes_used] for m in members]
    names = [_dataset(m) for m in members]
    bounds = limits(names, positions, share)
    return [position < bound for position, bound in zip(positions, bounds, strict=True)]


def _positions(episodes: Episodes) -> Float64[np.ndarray, " E"]:
    positions = [places(part.shard, part.indices) for part in episodes.parts()]
    return np.concatenate(positions) if positions else np.empty(0)


def _dataset(member: Member) -> str:
    """Two stores of one data set have one name here, whatever they are called in the mixture."""
    return next((part.shard.dataset for part in member.episodes.parts()), member.name)


def _held_out_before(episodes: Episodes, share: float) -> Bool[np.ndarray, " E"]:
    """By a hash of the key alone: a small data set may have none on one side."""
    marks = []
    for part in episodes.parts():
        shard = zlib.crc32(str(part.shard.episode(0)).removesuffix("00000").encode())
        hashes = [zlib.crc32(b"%05d" % index, shard) % 10_000 for index in part.indices.tolist()]
        marks.append(np.array(hashes) < share * 1e4)
    return np.concatenate(marks)
