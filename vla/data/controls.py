"""Wrong depth codes, for controls: policies of equal size and cost, taught depth that says nothing.

Of the episodes that are learnt from, every frame gets, by the setting `data.depth_codes`:

- `shuffled`: the codes of a random frame of another episode. The frames are permuted, so each is
  used exactly once: every position of the grid has each code as often as before.
- `same-step`: those of the same step of another episode, which keeps the average course of an
  episode. The episodes are permuted at every step; where only one is that long, the last frame of
  a random other one is taken (`alone` counts these).
- `random`: uniform codes, which have other statistics.

What a frame gets is drawn once, by the seed, when the data are opened: no second store, the same in
every epoch and on resuming. Held-out episodes keep their own codes, so that all arms are judged by
the same targets, and nothing of them is used to teach.
"""

# E episodes, S = E + 1 where they start and the last ends, N frames of all of them in a row

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Int64, UInt8

from depthtok.config import digest
from depthtok.data import EpisodeKey
from depthtok.errors import ConfigError
from vla.config import Config
from vla.data.crops import DepthCrops
from vla.data.member import Member
from vla.data.stores import Codes, EpisodePart, Grid

STREAM = 0xC0DE  # this draw's own branch of the seed
TRIES = 64  # before all frames are looked through


@dataclass(frozen=True)
class Exchange:
    """Which frame's codes every frame gets; frames are counted through all episodes."""

    starts: Int64[np.ndarray, " S"]
    sources: Int64[np.ndarray, " N"]
    alone: int = 0  # frames whose step no other episode reaches

    def source(self, row: int, step: int) -> tuple[int, int]:
        """Episode (by its row) and step of the codes of a frame."""
        frame = int(self.sources[self.starts[row] + step])
        episode = int(np.searchsorted(self.starts, frame, side="right")) - 1
        return episode, frame - int(self.starts[episode])


def shuffled(lengths: Int64[np.ndarray, " E"], seed: int) -> Exchange:
    """A random permutation of all frames in which none stays in its episode.

    Raises `ConfigError` where there is none: one episode holds more than half of the frames.
    """
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    total = int(starts[-1])
    if 2 * int(lengths.max()) > total:
        raise ConfigError(
            f"codes cannot be exchanged between episodes: one holds {lengths.max()} of {total} "
            "frames",
            remedy="give more episodes, or data.depth_codes = 'same-step' or 'random'",
        )
    episode = np.repeat(np.arange(len(lengths)), lengths)
    rng = np.random.default_rng((STREAM, seed))
    sources = rng.permutation(total).astype(np.int64)
    for frame in np.flatnonzero(episode[sources] == episode).tolist():
        home = episode[frame]
        if episode[sources[frame]] != home:  # mended by an earlier exchange
            continue
        other = _free(episode, sources, int(home), rng)
        sources[[frame, other]] = sources[[other, frame]]
    return Exchange(starts, sources)


def _free(
    episode: Int64[np.ndarray, " N"],
    sources: Int64[np.ndarray, " N"],
    own: int,
    rng: np.random.Generator,
) -> int:
    """A random frame outside an episode that does not draw from it. There always is one: of N
    frames at most 2 L - 1 < N lie in an episode of L, or draw from it."""
    for frame in rng.integers(len(episode), size=TRIES).tolist():
        if own not in (episode[frame], episode[sources[frame]]):
            return frame
    return int(rng.choice(np.flatnonzero((episode != own) & (episode[sources] != own))))


def same_step(lengths: Int64[np.ndarray, " E"], seed: int) -> Exchange:
    """For every step a random cycle of the episodes that reach it: each gets the next one's frame.

    Raises `ConfigError` for a single episode.
    """
    if len(lengths) < 2:
        raise ConfigError(
            "codes cannot be exchanged between episodes: there is one",
            remedy="give more episodes, or data.depth_codes = 'random'",
        )
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    rng, alone = np.random.default_rng((STREAM, seed)), 0
    sources = np.empty(int(starts[-1]), np.int64)
    for step in range(int(lengths.max())):
        rows = rng.permutation(np.flatnonzero(lengths > step))
        if len(rows) > 1:
            sources[starts[rows] + step] = starts[np.roll(rows, 1)] + step
        else:
            other = int(rng.choice(np.delete(np.arange(len(lengths)), rows)))
            sources[starts[rows] + step] = starts[other + 1] - 1
            alone += 1
    return Exchange(starts, sources, alone)


@dataclass(frozen=True)
class ForeignSteps:
    """The codes that one clip gets, step by step; itself the `codes` of a `Grid`."""

    of: ForeignCodes
    camera: str
    row: int

    @property
    def codes(self) -> ForeignSteps:
        return self

    def __getitem__(self, step: int) -> np.ndarray:
        return self.of.frame(self.camera, self.row, step)


class ForeignCodes:
    """A source of targets in which every frame of the `episodes` has another frame's codes."""

    def __init__(self, true: Codes, keys: Iterable[EpisodeKey], config: Config) -> None:
        self.kind, self.seed = config.data.depth_codes, config.train.seed
        self.fingerprint, self.content, self.codebook = (
            true.fingerprint,
            true.content,
            true.codebook,
        )
        self.cameras, self.grid, self.transform = true.cameras, true.grid, true.transform
        self._true, self._count = true, config.model.depth.codes
        self._rows = {key: row for row, key in enumerate(keys)}
        self._lengths = _lengths(true, self._rows)
        self._of_camera: dict[str, tuple[Exchange, dict[EpisodeKey, int], list[EpisodeKey]]] = {}

    def missing(self) -> list[str]:
        """Parts missing from the store."""
        return self._true.missing()

    def parts(self) -> Iterable[EpisodePart]:
        """The store's parts, which describe its contents."""
        return self._true.parts()

    def draw(self, cameras: Iterable[str]) -> None:
        """Draws for these cameras, among the episodes that have each: two cameras of the same
        episodes take their codes from the same frames."""
        for camera in cameras:
            keys = [key for key in self._rows if self._true.find_grid(key, camera) is not None]
            lengths = np.array([self._lengths[self._rows[key]] for key in keys], np.int64)
            make = shuffled if self.kind == "shuffled" else same_step
            if self.kind == "random":
                starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
                exchange = Exchange(starts, np.arange(starts[-1]))
            else:
                exchange = make(lengths, self.seed)
            self._of_camera[camera] = exchange, {k: n for n, k in enumerate(keys)}, keys

    def find_grid(self, key: EpisodeKey, camera: str) -> Grid | None:
        """The codes that a clip gets; None where the episode does not have this camera."""
        row = self._of_camera[camera][1].get(key)
        return None if row is None else ForeignSteps(self, camera, row)

    def frame(self, camera: str, row: int, step: int) -> np.ndarray:
        """The codes that a frame gets: [h, w]."""
        exchange, _, keys = self._of_camera[camera]
        if self.kind == "random":
            return self._random(camera, int(exchange.starts[row]) + step)
        other, moment = exchange.source(row, step)
        grid = self._true.find_grid(keys[other], camera)
        assert grid is not None  # episodes without the camera were not drawn from
        return grid.codes[moment]

    def _random(self, camera: str, frame: int) -> UInt8[np.ndarray, "h w"]:
        rng = np.random.default_rng((STREAM, self.seed, self.cameras.index(camera), frame))
        return rng.integers(0, self._count, self.grid, np.uint8)

    @cached_property
    def record(self) -> dict[str, object]:
        """What a run keeps of the draw: its kind and seed, and a digest of which frame gets which,
        by which a resumed run knows it again."""
        drawn = {
            camera: [list(map(str, keys)), hashlib.sha256(exchange.sources.tobytes()).hexdigest()]
            for camera, (exchange, _, keys) in self._of_camera.items()
        }
        alone = max(exchange.alone for exchange, _, _ in self._of_camera.values())
        return {"kind": self.kind, "seed": self.seed, "digest": digest(drawn), "alone": alone}


def _lengths(codes: Codes, rows: dict[EpisodeKey, int]) -> list[int]:
    """How many frames each of the episodes has, in their order."""
    lengths = [0] * len(rows)
    for part in codes.parts():
        for index, frames in zip(part.indices.tolist(), part.frames.tolist(), strict=True):
            row = rows.get(part.shard.episode(index))
            if row is not None:
                lengths[row] = frames
    return lengths


def controlled(member: Member, config: Config) -> Member:
    """A member to learn from, with the codes that `data.depth_codes` asks for.

    Raises `ConfigError` where codes cannot be exchanged, or depth is not learnt.
    """
    kind = config.data.depth_codes
    if kind == "true":
        return member
    if member.codes is None:
        raise ConfigError(
            f"data.depth_codes = {kind!r}, but no codes are used",
            remedy="leave it out, or set model.depth.target = 'codes'",
        )
    if isinstance(member.codes, DepthCrops) or config.data.crop < 1:
        raise ConfigError(
            f"data.depth_codes = {kind!r} exchanges stored codes, and data.crop asks for new ones",
            remedy="set data.crop = 1",
        )
    if kind == "random" and config.model.depth.target == "pixels":
        raise ConfigError(
            "there are no random codes of pixels", remedy="set data.depth_codes = 'shuffled'"
        )
    numbers = member.episodes_used.tolist()
    keys = [member.episodes.episode(number).key for number in numbers]
    foreign = ForeignCodes(member.codes, keys, config)
    foreign.draw(member.cameras[: config.model.depth.cameras])
    return replace(member, codes=foreign)


def records(members: Iterable[Member]) -> dict[str, dict[str, object]]:
    """What a run keeps of its wrong codes, by data set; {} where all codes are true."""
    return {m.name: m.codes.record for m in members if isinstance(m.codes, ForeignCodes)}


def fewer(member: Member, config: Config) -> Member:
    """A member to learn from with at most `data.demonstrations` episodes, drawn by the seed: those
    of a smaller number are among those of a larger one."""
    most, used = config.data.demonstrations, member.episodes_used
    if not most or len(used) <= most:
        return member
    order = np.random.default_rng((STREAM, 1, config.train.seed)).permutation(len(used))
    return replace(member, episodes_used=np.sort(used[order[:most]]))
