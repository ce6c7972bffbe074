"""tokenize, of the episodes of an export: the codes in it -> CodeStore. Nothing is encoded."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np

from depthtok.errors import ConfigError, CorruptRecord, SourceError, StaleStore, did_you_mean
from depthtok.json_values import value_of
from depthtok.remote.repository import recorded as recorded_path
from depthtok.sources.schema import Schema
from depthtok.stores import codes, filling
from depthtok.stores.arrays import ArraySpec
from depthtok.stores.codebook import Codebook
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.lineage import BROUGHT, exported_from
from depthtok.stores.origin import FRAMES, frames_of
from depthtok.stores.part_writer import PartWriter
from depthtok.stores.spec import StoreSpec
from pipelines.annotate.stage import inherit
from pipelines.own_codes.reading import OwnEpisode, reader_of
from pipelines.own_codes.recorded import RecordedCodes, read_recorded
from pipelines.probe import EPISODES
from pipelines.stage import Advance, Probe, Stage, Worker, WorkPart, recording_failures

VERSION = 2  # that of `tokenize`: absent cameras are known


@dataclass(frozen=True)
class OwnCodesStage:
    """Codes for every frame of an EpisodeStore, as its data set has them. `camera`: these alone."""

    episodes: EpisodeStore
    codebook: Codebook
    out: Path
    camera: tuple[str, ...] = ()
    partial: bool = False
    unit: str = "frames"

    @cached_property
    def recorded(self) -> RecordedCodes:
        """The codes of the data set. Raises `SourceError`, and `StaleStore` where they are of
        another codebook."""
        recorded = read_recorded(self.episodes.source_root)
        if recorded.codebook != self.codebook.fingerprint:
            raise StaleStore(
                f"the codes in {recorded.root} are of codebook {recorded.codebook[:12]}, not of "
                f"{self.codebook.fingerprint[:12]}",
                remedy="give --codebook the one that made them",
            )
        return recorded

    @cached_property
    def cameras(self) -> tuple[str, ...]:
        """The chosen cameras, or all that have codes. Raises `ConfigError`."""
        for name in self.camera:
            if name not in self.recorded.cameras:
                raise ConfigError(
                    f"{self.recorded.root} brings no codes of camera {name!r}",
                    remedy=did_you_mean(name, list(self.recorded.cameras)),
                )
        return tuple(self.episodes.camera(n).name for n in self.camera or self.recorded.cameras)

    @cached_property
    def spec(self) -> StoreSpec:
        episodes, recorded = self.episodes, self.recorded
        what: dict[str, object] = {"camera": list(self.camera), BROUGHT: recorded.export}
        what["made_with"] = recorded.made_with
        if recorded.estimator is not None:
            what["depth_what"] = {"estimator": recorded.estimator}
        about = {
            **recorded.about,
            "codebook": recorded.codebook,
            "grid": list(recorded.grid),
            "cameras": list(self.cameras),
            "dataset": episodes.about["dataset"],
            "fps": episodes.fps,
        }
        places = {"episodes": str(episodes.path.resolve())}
        places["codebook"] = recorded_path(self.codebook.path.resolve())
        places |= exported_from(episodes)
        source = episodes.fingerprint, episodes.spec.shards
        current = StoreSpec("codes", "tokenize", VERSION, what, about, *source, places)
        return filling.standing(self.out, current, [])

    def work(self) -> list[WorkPart]:
        self.episodes.require_complete(partial=self.partial)
        return [WorkPart.same(part, len(self.cameras)) for part in self.episodes.parts()]

    def arrays(self) -> Mapping[str, ArraySpec]:
        return codes.array_specs(self.cameras, self.recorded.grid)

    @cached_property
    def _schema(self) -> Schema:
        """By which the episodes were converted: it says which steps they are."""
        return Schema.from_json(value_of(self.episodes.spec.what, "schema", dict))

    def build(self, device: str) -> Worker:
        reader = reader_of(self.recorded)

        def fill(work: WorkPart, writer: PartWriter, advance: Advance) -> None:
            part = self.episodes.part(work.source)
            writer.roots = (self.episodes.source_root, self.episodes.path)
            if digests := frames_of(part.meta, self.cameras, ("rgb",)):
                writer.meta[FRAMES] = digests
            inherit(part, writer)
            expected = dict(zip(part.indices.tolist(), part.frames.tolist(), strict=True))
            for index, episode in reader.episodes(part):
                if index not in expected:  # it failed in `convert`, or its schema leaves it out
                    continue
                steps = expected.pop(index)
                with recording_failures(writer, index):
                    if isinstance(episode, SourceError):
                        raise episode
                    self._write(episode, index, steps, writer)
                advance(steps * len(self.cameras))
            for index in expected:
                writer.fail(index, "the data set has no such episode any more")

        return fill

    def _write(self, episode: OwnEpisode, index: int, steps: int, writer: PartWriter) -> None:
        keep = self._schema.keep(episode.raw)
        grids = {camera: episode.grids(self.recorded, camera, keep) for camera in self.cameras}
        ranges = []
        for camera, grid in grids.items():
            nothing = np.zeros((steps, *self.recorded.grid), np.uint8)
            writer.append(codes.array_name(camera), nothing if grid is None else grid)
            ranges.append(episode.ranges[camera])
            if grid is not None and len(grid) != steps:
                raise CorruptRecord(f"there are codes of {len(grid)} steps, and {steps} steps")
        writer.end(index, steps, range=np.asarray(ranges, np.float32))
        for camera in (camera for camera, grid in grids.items() if grid is None):
            writer.absent(camera, index)

    def probe(self, parts: Sequence[WorkPart]) -> Probe | None:
        """Reads the codes of a part's first episodes."""
        reader = reader_of(self.recorded)
        for work in parts:
            started, frames = time.monotonic(), 0
            for _, episode in islice(reader.episodes(self.episodes.part(work.source)), EPISODES):
                if isinstance(episode, OwnEpisode):
                    frames += len(episode.raw) * len(self.cameras)
            if frames:
                size = frames * int(np.prod(self.recorded.grid))
                return Probe(frames, time.monotonic() - started, size)
        return None

    def finish(self) -> None:
        """Does nothing: the store is complete once all parts exist."""


_: type[Stage] = OwnCodesStage
