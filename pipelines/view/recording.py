"""Episodes as recordings of rerun. The only file that imports it.

A file holds one recording an episode, all of one application, so that the viewer lists them side by
side, and one blueprint, which lays out all of them. Entities:

    CAMERA/rgb            EncodedImage with the data set's own file, or Image
    CAMERA/true_depth     DepthImage; so estimated_depth, decoded_depth
    CAMERA/codes          SegmentationImage; a code has the same colour everywhere
    action, proprio       Scalars, with the names of the columns
    instruction           TextDocument, where it changes

on the timelines `frame`, and `time` (seconds) where the rate is known.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rerun as rr
import rerun.blueprint as rrb
from rerun.chunk import RrdReader

from depthtok.errors import ConfigError, OutputError
from depthtok.pages.colour import code_colours
from pipelines.view.episode import ColourFrames, ShownEpisode
from pipelines.view.gather import Shown

FRAME, TIME = "frame", "time"
PNG = b"\x89PNG"
ACTION, PROPRIO, INSTRUCTION = "action", "proprio", "instruction"


def application(shown: Shown) -> str:
    """The name that recordings of one data set share."""
    return f"depthtok {shown.dataset}"


class Recorder:
    """Writes one episode as a recording into a file of its own."""

    def __init__(self, episode: ShownEpisode, path: Path) -> None:
        self.episode, self.fps = episode, episode.shown.fps
        self.stream = rr.RecordingStream(
            application(episode.shown), recording_id=str(episode.key), send_properties=False
        )
        self.stream.set_log_time_enabled(False)
        self.stream.save(path)

    def write(self) -> None:
        """All of it. Raises what reading the episode raises."""
        try:
            self.stream.send_recording_name(str(self.episode.key))
            self.stream.send_property(
                "depthtok", rr.AnyValues(drop_untyped_nones=True, **self._about())
            )
            for camera in self.episode.shown.cameras:
                self._pictures(camera)
            self._columns()
        finally:
            self.stream.disconnect()  # waits until the file is whole

    def _about(self) -> dict[str, list[str] | list[int]]:
        """What it is of, for people: columns of the viewer's list of recordings."""
        stores, stored = self.episode.shown.stores, self.episode.stored
        about: dict[str, list[str] | list[int]] = {
            "key": [str(self.episode.key)],
            "frames": [self.episode.frames],
            "instruction": [stored.instruction()] if stored is not None else [],
            "stores": [str(store.path) for store in stores],
            "fingerprints": [store.fingerprint for store in stores],
            "missing": self.episode.missing(),
        }
        return {name: values for name, values in about.items() if values}

    def _at(self, frame: int) -> None:
        self.stream.set_time(FRAME, sequence=frame)
        if self.fps:
            self.stream.set_time(TIME, duration=frame / self.fps)

    def _pictures(self, camera: str) -> None:
        colours = self.episode.colours(camera)
        if colours is not None:
            self._colours([camera, "rgb"], colours)
        for depth in self.episode.depths(camera):
            for frame, image in enumerate(depth.images):
                self._at(frame)
                shown = rr.DepthImage(image, meter=depth.meter, depth_range=depth.span)
                self.stream.log([camera, depth.name], shown, strict=True)
        for codes in self.episode.codes(camera):
            entity: list[object] = [camera, codes.name]
            self.stream.log(entity, code_classes(), static=True, strict=True)
            for frame, grid in enumerate(codes.grids):
                self._at(frame)
                self.stream.log(entity, rr.SegmentationImage(grid), strict=True)

    def _colours(self, entity: list[object], colours: ColourFrames) -> None:
        if colours.files is None:
            for frame, image in enumerate(colours.images):
                self._at(frame)
                self.stream.log(entity, rr.Image(image), strict=True)
            return
        for frame, data in enumerate(colours.files):
            self._at(frame)
            media = "image/png" if data.startswith(PNG) else "image/jpeg"
            picture = rr.EncodedImage(contents=data, media_type=media)
            self.stream.log(entity, picture, strict=True)

    def _columns(self) -> None:
        """Actions, states, and what to do."""
        store, stored = self.episode.shown.episodes, self.episode.stored
        if store is None or stored is None:
            return
        self._series(ACTION, stored.action, store.action_names)
        self._series(PROPRIO, stored.proprio, store.proprio_names)
        before = None
        for frame in range(self.episode.frames):
            text = stored.instruction(frame)
            if text != before:
                self._at(frame)
                self.stream.log(INSTRUCTION, rr.TextDocument(text), strict=True)
            before = text

    def _series(self, entity: str, values: np.ndarray, names: Sequence[str]) -> None:
        if not values.size:
            return
        self.stream.log(entity, rr.SeriesLines(names=list(names)), static=True, strict=True)
        frames = np.arange(len(values))
        times = [rr.TimeColumn(FRAME, sequence=frames)]
        if self.fps:
            times.append(rr.TimeColumn(TIME, duration=frames / self.fps))
        columns = rr.Scalars.columns(scalars=np.asarray(values, np.float64))
        self.stream.send_columns(entity, indexes=times, columns=columns, strict=True)


def code_classes() -> rr.AnnotationContext:
    """The colour and the name of every code."""
    colours = enumerate(code_colours().tolist())
    return rr.AnnotationContext([(code, f"code {code}", colour) for code, colour in colours])


def layout(shown: Shown) -> rrb.Blueprint:
    """Cameras below each other, the pictures of each side by side; columns and words at the end."""
    rows = []
    for camera in shown.cameras:
        names = ["rgb", *shown.pictures]
        views = [rrb.Spatial2DView(origin=_path(camera, name), name=name) for name in names]
        rows.append(rrb.Horizontal(*views, name=camera))
    series = [rrb.TimeSeriesView(origin=f"/{entity}", name=entity) for entity in (ACTION, PROPRIO)]
    words = rrb.TextDocumentView(origin=f"/{INSTRUCTION}", name=INSTRUCTION)
    bottom = [rrb.Horizontal(*series, words)] if shown.episodes is not None else []
    return rrb.Blueprint(rrb.Vertical(*rows, *bottom))


def _path(*words: object) -> str:
    return rr.new_entity_path(list(words))


def merge(recordings: Sequence[Path], shown: Shown, out: Path) -> None:
    """One file `out` of recordings and their layout. Raises `OutputError`, also for recordings that
    were not written whole: rerun writes in a thread of its own, and only logs what goes wrong."""
    blueprint = recordings[0].with_suffix(".rbl")
    layout(shown).save(application(shown), blueprint)
    files = map(str, (*recordings, blueprint))
    command = [sys.executable, "-m", "rerun", "rrd", "merge", *files, "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode or not all(map(is_whole, recordings)) or not is_whole(out, len(recordings)):
        raise OutputError(
            f"{out} could not be written: {done.stderr.strip()[-500:]}",
            remedy="see that there is room, and run the command again; --episodes shows fewer",
        )


def is_whole(path: Path, recordings: int = 1) -> bool:
    """Whether a file has all of so many recordings: rerun writes its index at the very end."""
    try:
        with warnings.catch_warnings(action="ignore"):
            reader = RrdReader(path)
            stores = [reader.store(store=entry) for entry in reader.recordings()]
    except (RuntimeError, ValueError):
        return False
    return len(stores) == recordings


def open_viewer(path: Path) -> None:
    """Shows a file in rerun's viewer until that is closed. Raises `ConfigError` where no window can
    be opened."""
    done = subprocess.run([sys.executable, "-m", "rerun", path], stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise ConfigError(
            f"rerun's viewer ended with an error: {done.stderr.strip()[-300:]}",
            remedy="where there is no screen, write a file with --out FILE.rrd, and open that "
            "elsewhere: `rerun FILE.rrd`",
        )
