"""A folder of videos or images -> EpisodeStore, as input of all later stages.

Frames are packed into the store. There are no actions (they have no columns), and the name of the
folder or file is used as the instruction.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

import google_crc32c
import numpy as np

from depthtok.config import digest
from depthtok.data import Camera
from depthtok.disk.files import slug
from depthtok.errors import CorruptRecord, SourceError, StaleStore
from depthtok.sources.pixels import PixelFormat
from depthtok.sources.video_file import Look
from depthtok.sources.videos import VideoEpisode, films, is_lerobot_depth
from depthtok.stores import filling
from depthtok.stores.arrays import ArraySpec
from depthtok.stores.episodes import INSTRUCTIONS, View, array_specs
from depthtok.stores.frame_files import PACKED
from depthtok.stores.origin import MADE_FROM
from depthtok.stores.part_writer import PartWriter
from depthtok.stores.parts import PartName, ShardKey, shard_name
from depthtok.stores.spec import ROOT, StoreSpec, read_spec
from pipelines.convert.changes import FilmWatch
from pipelines.probe import FRAMES
from pipelines.stage import Advance, Probe, Stage, Worker, WorkPart, recording_failures

VERSION = 3  # 2 took frames as they lie, cut files for whole ones, and depth videos for pictures
SPLIT = "train"
CAMERA = "image"


@dataclass(frozen=True)
class VideoStage:
    """One part per video or folder of images, remade if the size of a file changes.

    The set of their names is fixed for a store, because the names of the parts follow from it.
    """

    folder: Path
    out: Path
    unit: str = "episodes"

    @cached_property
    def looks(self) -> list[tuple[VideoEpisode, Look]]:
        """Everything in the folder, and what it looks like."""
        return [
            (film, Look(depth=True) if is_lerobot_depth(film.path) else film.look())
            for film in films(self.folder)
        ]

    @cached_property
    def films(self) -> list[VideoEpisode]:
        """The episodes found in the folder. Raises `SourceError` where all of them are depth."""
        pictures = [film for film, look in self.looks if not look.depth]
        if not pictures:
            raise SourceError(
                f"{self.folder} has depth videos only (first: {self.depth_videos[0]})",
                remedy="depth is estimated from pictures: name the folder of a camera's videos",
            )
        return pictures

    @property
    def depth_videos(self) -> list[str]:
        """Names of the videos that hold depth and are left out."""
        return [film.name for film, look in self.looks if look.depth]

    def _shared(self) -> tuple[int | None, int | None, float | None]:
        """Height, width and Hz shared by all; None where they differ or are unknown. Unreadable
        films are ignored, so that repairing one does not change the store's fingerprint."""
        looks = [(look.size, look.rate) for _, look in self.looks if look.size]
        sizes, rates = {size for size, _ in looks}, {rate for _, rate in looks}
        height, width = sizes.pop() if len(sizes) == 1 else (None, None)
        return height, width, rates.pop() if len(rates) == 1 else None

    @cached_property
    def spec(self) -> StoreSpec:
        current = self._described(*self._shared())
        return filling.standing(self.out, current, [replace(current, stage_version=2)])

    def _described(self, height: int | None, width: int | None, fps: float | None) -> StoreSpec:
        view = View(CAMERA, "rgb", PixelFormat("jpeg", "uint8", (None, None, 3)))
        about = {
            "dataset": self._dataset,
            "version": "0",
            "fps": fps,
            "cameras": [asdict(Camera(CAMERA, height, width))],
            "views": [view.to_json()],
            "action_dim": 0,
            "proprio_dim": 0,
            "action_names": [],
            "proprio_names": [],
            "gripper": [],
            "gripper_convention": "none",
        }
        source = digest([film.name for film in self.films]), {SPLIT: len(self.films)}
        what, locations = {"source": "videos"}, {"source_root": str(self.folder.resolve())}
        return StoreSpec("episodes", "annotate", VERSION, what, about, *source, locations)

    @property
    def _dataset(self) -> str:
        return slug(self.folder.resolve().name)

    def work(self) -> list[WorkPart]:
        self._require_same_films()
        parts, count = [], len(self.films)
        for number, film in enumerate(self.films):
            name = PartName(shard_name(SPLIT, number, count))
            shard, rows = ShardKey(self._dataset, "0", SPLIT, number, count), (number, number + 1)
            parts.append(WorkPart(name, shard, 1, len(film.images), digest(film.sizes), rows=rows))
        return parts

    def _require_same_films(self) -> None:
        if not (self.out / ROOT).is_file():
            return
        existing, spec = read_spec(self.out), self.spec
        if existing.what == spec.what and existing.upstream != spec.upstream:
            raise StaleStore(
                f"{self.out} was made from {existing.shards[SPLIT]} videos or image folders, "
                f"{self.folder} has {len(self.films)}, not the same ones",
                remedy="put new videos into a separate folder and annotate that into another "
                "--out, or annotate all of them into another --out",
            )

    def watch(self) -> FilmWatch:
        """Tells which parts are of other files than those that are there now."""
        count = len(self.films)
        names = (str(PartName(shard_name(SPLIT, number, count))) for number in range(count))
        return FilmWatch(self.out, dict(zip(names, self.films, strict=True)))

    def arrays(self) -> Mapping[str, ArraySpec]:
        return array_specs(0, 0, 1, 1)

    def build(self, device: str) -> Worker:
        def fill(work: WorkPart, writer: PartWriter, advance: Advance) -> None:
            film = self.films[work.rows[0]]
            writer.meta["source"] = None
            writer.roots = (self.folder,)
            writer.meta[MADE_FROM] = {"size": sum(film.sizes), "digest": film.digest}
            with recording_failures(writer, 0):
                _pack(film, writer)
            (writer.directory / INSTRUCTIONS).write_text(json.dumps([film.name]))
            advance(1)

        return fill

    def probe(self, parts: Sequence[WorkPart]) -> Probe | None:
        """Packs the first frames of a film; how long films are is what their containers say."""
        measured = sample(self, parts, FRAMES)
        return Probe(*measured) if measured else None

    def finish(self) -> None:
        """Does nothing: there are no columns for statistics."""


_: type[Stage] = VideoStage


def _pack(film: VideoEpisode, writer: PartWriter) -> None:
    """Copies the frames of an episode, and records their locations; no byte where it fails."""
    locations, start = [], 0
    with (writer.directory / PACKED).open("wb") as packed:
        try:
            for data in film.frames(writer.meta):
                packed.write(data)
                low, high = start & 0xFFFFFFFF, start >> 32
                locations.append((low, high, len(data), google_crc32c.value(data)))
                start += len(data)
        except SourceError:
            packed.truncate(0)
            raise
    if not locations:
        raise CorruptRecord(f"{film.path} has no frames")
    frames = len(locations)
    writer.append("images", np.asarray(locations, np.uint32)[:, None])
    for name in ("action", "proprio"):
        writer.append(name, np.zeros((frames, 0), np.float32))
    writer.append("instruction", np.zeros(frames, np.uint32))
    writer.end(0, frames, intrinsics=np.full((1, 9), np.nan, np.float32))


def sample(
    stage: VideoStage, parts: Sequence[WorkPart], most: int
) -> tuple[float, float, float] | None:
    """What an average film has, going by the first `most` frames of one that can be read: frames
    sampled as a share of a film's, and seconds and bytes for these. None where it is not known."""
    counts = [look.frames for _, look in stage.looks if look.frames]
    for part in parts if counts else ():
        started, frames, size = time.monotonic(), 0, 0
        with suppress(SourceError):
            for data in islice(stage.films[part.rows[0]].frames({}), most):
                frames, size = frames + 1, size + len(data)
        if frames:
            share = frames / (sum(counts) / len(counts))
            return share, time.monotonic() - started, size
    return None
