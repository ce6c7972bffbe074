"""A folder of videos or images -> EpisodeStore, as input of all later stages.

Frames are packed into the store. There are no actions (they have no columns), and the name of the
folder or file is used as the instruction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import google_crc32c
import numpy as np

from depthtok.arrays import ArraySpec
from depthtok.config import digest
from depthtok.data import Camera
from depthtok.episodes import INSTRUCTIONS, PACKED, View, array_specs
from depthtok.errors import CorruptRecord, StaleStore
from depthtok.files import slug
from depthtok.parts import PartName, PartWriter, ShardKey, shard_name
from depthtok.sources.pixels import PixelFormat
from depthtok.sources.videos import Film, films
from depthtok.store import ROOT, StoreSpec, read_spec
from pipelines.probe import first_frames
from pipelines.stage import Advance, Probe, Worker, WorkPart, recording_failures

VERSION = 2
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
    def films(self) -> list[Film]:
        """The episodes found in the folder."""
        return films(self.folder)

    @cached_property
    def _looks(self) -> tuple[tuple[int | None, int | None], float | None]:
        """Height, width and Hz shared by all; None where they differ or are unknown. Unreadable
        films are ignored, so that repairing one does not change the store's fingerprint."""
        looks = [(size, rate) for size, rate in (f.look() for f in self.films) if size]
        sizes, rates = {size for size, _ in looks}, {rate for _, rate in looks}
        size = sizes.pop() if len(sizes) == 1 else (None, None)
        return size, rates.pop() if len(rates) == 1 else None

    @cached_property
    def spec(self) -> StoreSpec:
        (height, width), fps = self._looks
        view = View(CAMERA, "rgb", PixelFormat("jpeg", "uint8", (None, None, 3)))
        return StoreSpec(
            type="episodes", stage="annotate", stage_version=VERSION, what={"source": "videos"},
            about={
                "dataset": slug(self.folder.resolve().name), "version": "0", "fps": fps,
                "cameras": [asdict(Camera(CAMERA, height, width))], "views": [view.to_json()],
                "action_dim": 0, "proprio_dim": 0, "action_names": [], "proprio_names": [],
                "gripper": [], "gripper_convention": "none",
            },
            upstream=digest([film.name for film in self.films]),
            shards={SPLIT: len(self.films)}, place={"source_root": str(self.folder.resolve())},
        )  # fmt: skip

    def work(self) -> list[WorkPart]:
        self._require_same_films()
        dataset, count = self.spec.about["dataset"], len(self.films)
        return [
            WorkPart(PartName(shard_name(SPLIT, number, count)),
                     ShardKey(dataset, "0", SPLIT, number, count), 1, len(film.images),
                     digest(film.sizes), rows=(number, number + 1))
            for number, film in enumerate(self.films)
        ]  # fmt: skip

    def _require_same_films(self) -> None:
        if not (self.out / ROOT).is_file():
            return
        found, spec = read_spec(self.out), self.spec
        same_stage = (found.what, found.stage_version) == (spec.what, VERSION)
        if same_stage and found.upstream != spec.upstream:
            raise StaleStore(
                f"{self.out} was made from {found.shards[SPLIT]} videos or image folders, "
                f"{self.folder} has {len(self.films)}, not the same ones",
                remedy="put new videos into a separate folder and annotate that into another "
                "--out, or annotate all of them into another --out",
            )

    def arrays(self) -> Mapping[str, ArraySpec]:
        return array_specs(0, 0, 1, 1)

    def build(self, device: str) -> Worker:
        def fill(work: WorkPart, writer: PartWriter, advance: Advance) -> None:
            film = self.films[work.rows[0]]
            writer.meta["source"] = None
            writer.roots = (self.folder,)
            with recording_failures(writer, 0):
                _pack(film, writer)
            (writer.directory / INSTRUCTIONS).write_text(json.dumps([film.name]))
            advance(1)

        return fill

    def probe(self, parts: Sequence[WorkPart]) -> Probe | None:
        """Reads the first frames of a film, and takes the others to be like it."""
        probes = (first_frames(self.films[part.rows[0]]) for part in parts)
        return next((probe for probe in probes if probe), None)

    def finish(self) -> None:
        """Does nothing: there are no columns for statistics."""


def _pack(film: Film, writer: PartWriter) -> None:
    """Copies the frames of an episode, and records their locations."""
    places, start = [], 0
    with (writer.directory / PACKED).open("wb") as packed:
        for data in film.frames():
            packed.write(data)
            row = (start & 0xFFFFFFFF, start >> 32, len(data), google_crc32c.value(data))
            places.append(row)
            start += len(data)
    if not places:
        raise CorruptRecord(f"{film.path} has no frames")
    frames = len(places)
    writer.append("images", np.asarray(places, np.uint32)[:, None])
    for name in ("action", "proprio"):
        writer.append(name, np.zeros((frames, 0), np.float32))
    writer.append("instruction", np.zeros(frames, np.uint32))
    writer.end(0, frames, intrinsics=np.full((1, 9), np.nan, np.float32))
