"""annotate, one part: an estimator's blocks, clip by clip, become the rows of episodes.

A camera that an episode does not have gets rows without any depth, and is recorded.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from depthtok.data import QUANTILES, DepthBlock, DepthClip, DepthEstimator
from depthtok.errors import SourceError
from depthtok.resized import at_size
from depthtok.stores import depth
from depthtok.stores.depth import ClipQuantiles, DepthEncoding
from depthtok.stores.part_writer import PartWriter
from depthtok.stores.stored_episode import StoredEpisode, StoredFrames
from pipelines.annotate.watch import Watched
from pipelines.stage import Advance


@dataclass(frozen=True)
class DepthLayout:
    """What the rows of an episode are: depth of these cameras, of this size in px, so encoded."""

    cameras: tuple[str, ...]
    size: tuple[int, int]
    encoding: DepthEncoding

    @property
    def estimated(self) -> bool:
        """Whether it is an estimator's depth: a data set's own is stored in its own precision, and
        may have no pixel of a clip, where a sensor measured nothing."""
        return self.encoding is DepthEncoding.FLOAT16

    def resized(self, clip: DepthClip) -> DepthClip:
        """Estimated depth at the stored size."""
        return at_size(clip, self.size)


class FrameMeter:
    """Reports how many frames are done, with the share of time in which the estimator was waiting
    neither for frames nor for the store to write its output."""

    def __init__(self, estimator: DepthEstimator, advance: Advance) -> None:
        self._estimator, self._advance = estimator, advance
        self._started, self._waited_before = time.monotonic(), self._waited()
        self._storing = 0.0

    def __call__(self, frames: int, storing: float = 0.0) -> None:
        """Reports `frames` more as done; `storing` seconds went into writing them."""
        self._storing += storing
        seconds = time.monotonic() - self._started
        idle = self._waited() - self._waited_before + self._storing
        self._advance(frames, busy=round(max(0.0, 1 - idle / max(seconds, 1e-9)), 2))

    def _waited(self) -> float:
        return getattr(self._estimator, "waited", 0.0)  # not every estimator measures it


class EpisodeSink:
    """Writes an estimator's blocks, clip by clip, as episodes. `clips` is what to estimate: the
    cameras that the episodes are known not to have are left out."""

    def __init__(
        self,
        layout: DepthLayout,
        episodes: list[StoredEpisode],
        writer: PartWriter,
        advance: FrameMeter,
    ) -> None:
        self.layout, self.episodes, self.writer, self.advance = layout, episodes, writer, advance
        self.places = [
            (row, camera)
            for row, episode in enumerate(episodes)
            for camera in layout.cameras
            if not episode.absent(camera)
        ]
        self.clips = [Watched(episodes[row].frames(camera)) for row, camera in self.places]
        self.clips_to_come = Counter(row for row, _ in self.places)  # of each episode
        self.row = 0  # the current episode
        self.failed: set[int] = set()  # episodes whose other clips are skipped
        self.clip_frames = 0  # written of the current clip
        self.reported = 0  # frames of the current episode reported as done
        self.counts = ClipQuantiles(layout.encoding)
        self.quantiles: dict[str, np.ndarray] = {}  # of the current episode's clips so far
        self._end_episodes()

    def take(self, block: DepthBlock) -> None:
        """Writes a block, or records why its episode failed: that is not raised."""
        started = time.monotonic()
        row, camera = self.places[block.clip]
        if row in self.failed:
            return
        assert row == self.row, f"got a block of episode {row}, but {self.row} is not complete"
        try:
            if block.error or block.depth is None:
                raise SourceError(block.error or "its estimator gave no depth, and no reason")
            packed = depth.pack(self.layout.resized(block.depth), self.layout.encoding)
        except SourceError as error:  # not caused by the settings: other episodes may fit
            self._fail(f"{camera}: {error.problem}")
            self._end_episodes()
            return
        self.writer.append(depth.array_name(camera), packed)
        self.counts.add(packed)
        self.clip_frames += len(packed)
        self._report(len(packed), time.monotonic() - started)
        if self.clip_frames == len(self.episodes[row]):
            self._end_clip(camera, blank=self.clips[block.clip].blank)

    def close(self) -> None:
        """Checks at the end that every episode is complete or has failed."""
        assert self.row == len(self.episodes), f"the estimator stopped in episode {self.row}"

    def not_measured(self) -> dict[str, dict[str, int]]:
        """The placeholders in the data set's own depth, see `_not_measured`."""
        return _not_measured([watched.clip for watched in self.clips])

    def _report(self, frames: int, storing: float = 0.0) -> None:
        self.reported += frames
        self.advance(frames, storing)

    def _end_clip(self, camera: str, *, blank: bool) -> None:
        quantiles = self.counts.values()
        if blank:  # seen only now that all of its frames were: its depth means nothing
            self.writer.take_back(depth.array_name(camera))
        elif self.layout.estimated and np.isnan(quantiles).all():
            self._fail(f"{camera}: its estimator gave depth of no pixel")
            self._end_episodes()
            return
        else:
            self.quantiles[camera] = quantiles
        self.clip_frames, self.counts = 0, ClipQuantiles(self.layout.encoding)
        self.clips_to_come[self.row] -= 1
        self._end_episodes()

    def _end_episodes(self) -> None:
        """Ends the current episode if all of its clips are done, and those after it that have no
        clip to wait for."""
        while self.row < len(self.episodes) and not self.clips_to_come[self.row]:
            if self.quantiles or self._has_others(self.episodes[self.row]):
                self._end_episode(self.episodes[self.row])
                self._next_episode()
            else:
                self._fail("every camera is absent: its picture is one flat colour throughout")

    def _has_others(self, episode: StoredEpisode) -> bool:
        """Whether an episode has cameras that were not chosen: it is sound, without depth here."""
        others = set(episode.cameras).difference(self.layout.cameras)
        return any(not episode.absent(camera) for camera in others)

    def _end_episode(self, episode: StoredEpisode) -> None:
        cameras, size, encoding = self.layout.cameras, self.layout.size, self.layout.encoding
        table = np.full((len(cameras), len(QUANTILES)), np.nan, np.float32)
        for number, camera in enumerate(cameras):
            if camera in self.quantiles:
                table[number] = self.quantiles[camera]
                continue
            for rows in depth.invalid_rows(len(episode), size, encoding):
                self.writer.append(depth.array_name(camera), rows)
            self.writer.absent(camera, episode.key.index)
        self._report(len(episode) * len(cameras) - self.reported)
        self.writer.end(episode.key.index, len(episode), quantiles=table)

    def _fail(self, reason: str) -> None:
        episode = self.episodes[self.row]
        self.writer.fail(episode.key.index, reason)
        self._report(len(episode) * len(self.layout.cameras) - self.reported)
        self.failed.add(self.row)
        self._next_episode()

    def _next_episode(self) -> None:
        self.row, self.clip_frames, self.reported, self.quantiles = self.row + 1, 0, 0, {}
        self.counts = ClipQuantiles(self.layout.encoding)


def _not_measured(clips: Sequence[StoredFrames]) -> dict[str, dict[str, int]]:
    """By camera: how many pixels there were, and how many of them held which placeholder. Cameras
    without one are left out."""
    totals: dict[str, dict[str, int]] = {}
    for clip in clips:
        counts = {"pixels": clip.clip_depth.pixels, **clip.clip_depth.tally}
        total = totals.setdefault(clip.camera.name, {})
        for name, count in counts.items():
            total[name] = total.get(name, 0) + count
    return {camera: counts for camera, counts in totals.items() if len(counts) > 1}


def cut(frames: list[int], limit: int) -> list[tuple[int, int]]:
    """Ranges (start, stop) of whole episodes with at most `limit` frames, or a single episode."""
    cuts, start, total = [], 0, 0
    for row, count in enumerate(frames):
        if total and total + count > limit:
            cuts.append((start, row))
            start, total = row, 0
        total += count
    return [*cuts, (start, len(frames))]
