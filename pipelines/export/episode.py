"""What is made of one episode on the way to LeRobot: a video a camera, and its statistics.

<stream>.mp4     a clip: encoded, or packets copied from the data set's video
episode.json     the `ClipFacts` of every stream, statistics by feature; or why there is none
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from threading import Lock

import numpy as np
from jaxtyping import UInt8, UInt16

from depthtok.disk.files import commit_directory
from depthtok.errors import SourceError
from depthtok.frames import video
from depthtok.frames.depth_codes import LAST
from depthtok.frames.kinds import file_numbers, positions
from depthtok.json_values import JsonObject, value_of
from depthtok.sources.features import read_json
from depthtok.stores.stored_episode import StoredEpisode
from pipelines.export import packets, statistics
from pipelines.export.clips import depth_codec, rgb_codec, write_clip
from pipelines.export.config import ExportConfig
from pipelines.export.joined import Joined
from pipelines.export.names import CameraKeys

BLOCK = 32  # frames that are held at a time
RECORD = "episode.json"
STATISTICS = "statistics"


class Cancelled(Exception):
    """The export is being stopped."""


@dataclass
class EpisodeMaker:
    """Makes the folder of any episode. Threads may share it; `cancelled` is asked now and then."""

    joined: Joined
    config: ExportConfig
    keys: Mapping[str, CameraKeys]
    rate: Fraction
    work: Path
    cancelled: Callable[[], bool] = lambda: False
    _indices: dict[Path, packets.PacketIndex] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def folder(self, number: int) -> Path:
        """Where the clips and the record of an episode lie."""
        return self.work / "episodes" / f"{number // 1000:03d}" / f"{number:06d}"

    def record(self, number: int) -> JsonObject:
        """What was made of an episode, but for its statistics: those are many."""
        record = read_json(self.folder(number) / RECORD)
        return {name: value for name, value in record.items() if name != STATISTICS}

    def figures(self, number: int) -> dict[str, statistics.Figures]:
        """The statistics of an episode's videos."""
        of_videos = value_of(read_json(self.folder(number) / RECORD), STATISTICS, dict)
        return {key: statistics.from_json(data) for key, data in of_videos.items()}

    def make(self, number: int) -> None:
        """Makes the folder of an episode, unless it is there. What is wrong with the episode is
        recorded; raises `SourceUnavailable`, `OutputError`, and `Cancelled`."""
        if self.folder(number).is_dir():
            return
        episode = self.joined.episodes.episode(number)
        with commit_directory(self.folder(number)) as folder:
            try:
                record = self._made(episode, folder)
            except SourceError as error:
                for clip in folder.glob("*.mp4"):
                    clip.unlink()
                record = {"failed": str(error.problem)}
            record |= {"key": str(episode.key), "frames": len(episode)}
            (folder / RECORD).write_text(json.dumps(record, allow_nan=False))

    def _made(self, episode: StoredEpisode, folder: Path) -> dict[str, object]:
        figures: dict[str, dict[str, list]] = {}
        clips, copied, beyond = {}, [], {}
        for camera, keys in self.keys.items():
            path = folder / f"{keys.rgb}.mp4"
            counter = statistics.of_pictures()
            if self._copy(episode, camera, path):
                copied.append(camera)
                self._count_some(episode, camera, counter)
            else:
                frames = self._counted(self._frames(episode, camera), len(episode), counter)
                write_clip(path, frames, self.rate, rgb_codec(self.config))
            clips[keys.rgb] = packets.examined(path).to_json()
            figures[keys.rgb] = statistics.to_json(counter.figures())
        for camera in self.joined.depth_cameras:
            key = self.keys[camera].depth
            counter = statistics.of_depth(self._depth.table)
            outside = [0]
            frames = self._counted(
                self._depth_frames(episode, camera, outside), len(episode), counter
            )
            write_clip(folder / f"{key}.mp4", frames, self.rate, depth_codec(self.config))
            clips[key] = packets.examined(folder / f"{key}.mp4").to_json()
            figures[key] = statistics.to_json(counter.figures(statistics.NO_DEPTH))
            beyond[camera] = outside[0]
        for key, clip in clips.items():
            if clip["frames"] != len(episode):
                raise SourceError(f"{episode.key}: {key} got {clip['frames']} frames")
        return {"clips": clips, "copied": copied, "beyond": beyond, STATISTICS: figures}

    @cached_property
    def _depth(self):
        return self.config.depth_codes

    def _frames(self, episode: StoredEpisode, camera: str) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        frames = episode.frames(camera)
        for start in range(0, len(episode), BLOCK):
            self._go_on()
            yield from frames.read(start, min(start + BLOCK, len(episode)))

    def _depth_frames(
        self, episode: StoredEpisode, camera: str, outside: list[int]
    ) -> Iterator[UInt16[np.ndarray, "H W"]]:
        """The codes of every frame, 0 where nothing was measured. Counts the pixels that are
        beyond the ends in `outside`."""
        clip = self.joined.clip(episode, camera)
        for start in range(0, len(episode), BLOCK):
            self._go_on()
            block = clip.read(start, min(start + BLOCK, len(episode)))
            codes = self._depth.codes(block.values)
            outside[0] += int((np.isin(codes, (0, LAST)) & block.valid).sum())
            yield from np.where(block.valid, codes, np.uint16(0))

    def _go_on(self) -> None:
        if self.cancelled():
            raise Cancelled

    @staticmethod
    def _counted(
        frames: Iterator[np.ndarray], count: int, counter: statistics.PictureCounter
    ) -> Iterator[np.ndarray]:
        """The frames, some of which are counted."""
        chosen = set(statistics.sampled(count))
        for number, frame in enumerate(frames):
            if number in chosen:
                counter.add(frame)
            yield frame

    def _count_some(
        self, episode: StoredEpisode, camera: str, counter: statistics.PictureCounter
    ) -> None:
        frames = episode.frames(camera)
        for number in statistics.sampled(len(episode)):
            self._go_on()
            counter.add(frames.read(number, number + 1)[0])

    def _copy(self, episode: StoredEpisode, camera: str, target: Path) -> bool:
        """Copies the packets of an episode, if its frames are those of a video that can be cut."""
        store = self.joined.episodes
        number = store.view_index(camera, "rgb")
        view = store.views[number]
        if not self.config.copy or view.frames_by.name != video.NAME or view.channels != "rgb":
            return False
        rows = store.table(episode.part, "images")[episode.start :][: len(episode), number]
        files, stamps = np.unique(file_numbers(rows)), positions(rows)
        if len(files) != 1 or stamps != sorted(set(stamps)):
            return False
        path = store.view_files(episode.part, number)[int(files[0])]
        index = self._index(path)
        span = index.range_of(stamps)
        if span is None:
            return False
        order = np.argsort(index.pts[span.start : span.stop])
        if not np.array_equal(index.check[span.start : span.stop][order], rows[:, 2:]):
            raise SourceError(
                f"{path}: frames of {episode.key} changed since they were indexed",
                remedy="run `depthtok convert` again: it makes the parts of changed files anew",
            )
        packets.cut_out(path, index, span, target, self.rate)
        return True

    def _index(self, path: Path) -> packets.PacketIndex:
        with self._lock:
            if path not in self._indices:
                if len(self._indices) >= 16:
                    self._indices.clear()
                self._indices[path] = packets.index(path)
            return self._indices[path]
