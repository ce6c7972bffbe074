"""Frames of a LeRobot data set's videos, as annotation reads them: against plain PyAV.

    python benchmarks/video_frames.py LEROBOT_DIR [--rounds 5] [--json OUT]

The baseline opens every RGB video and converts each decoded frame to RGB, from the first to the
last. Ours reads every frame of every episode through an EpisodeStore that is made first, clip by
clip in blocks, with the checks that come with it. Both alternate in one process, with the page
cache warm; CPU seconds are user and system time of the process. First every frame is compared.
"""

import argparse
import json
import resource
import statistics
import tempfile
import time
from pathlib import Path

import av
import numpy as np

from depthtok.config import RunOptions
from depthtok.sources.draft import draft
from depthtok.sources.lerobot.dataset import LeRobotDirectory
from depthtok.stores.episodes import EpisodeStore
from pipelines.config import ConvertConfig
from pipelines.convert.files import FilesStage
from pipelines.run import run

BLOCK = 32  # frames that are read together, as the estimators do


def converted(directory: Path, folder: Path) -> EpisodeStore:
    """The EpisodeStore of a data set, by a draft of its schema."""
    dataset = LeRobotDirectory.open(directory)
    (folder / "schema.toml").write_text(draft(dataset.features, dataset.name, None, dataset.fps))
    config = ConvertConfig(schema=str(folder / "schema.toml"))
    run(FilesStage(dataset, folder / "episodes", config), RunOptions())
    return EpisodeStore(folder / "episodes")


def videos(directory: Path, store: EpisodeStore) -> list[Path]:
    """The videos of the store's cameras."""
    keys = [camera["key"] for camera in store.spec.what["schema"]["camera"]]
    paths = {path for part in store.parts() for path, _ in store.frame_files(part)}
    return sorted(p for p in paths if p.suffix == ".mp4" and any(k in p.parts for k in keys))


def plain(paths: list[Path]) -> int:
    """Decodes every frame of every video; their number."""
    frames = 0
    for path in paths:
        with av.open(str(path)) as file:
            for frame in file.decode(video=0):
                frame.to_ndarray(format="rgb24")
                frames += 1
    return frames


def ours(store: EpisodeStore) -> int:
    """Reads every frame of every episode; their number."""
    frames = 0
    for episode in store:
        for camera in store.cameras:
            clip = episode.frames(camera)
            for start in range(0, len(clip), BLOCK):
                frames += len(clip.read(start, min(start + BLOCK, len(clip))))
    return frames


def seconds(work, *arguments) -> tuple[float, float, int]:
    """CPU seconds, seconds on the clock, and what `work` returns."""
    cpu, clock = time.process_time(), time.monotonic()
    frames = work(*arguments)
    return time.process_time() - cpu, time.monotonic() - clock, frames


def compared(paths: list[Path], store: EpisodeStore) -> int:
    """Holds every frame against that of plain PyAV at its time; their number."""
    frames = 0
    for number, view in enumerate(store.views):
        if view.kind != "rgb":
            continue
        for part in store.parts():
            rows = store.table(part, "images")[:, number]
            files = [path for path, _ in store.frame_files(part)]
            for file in sorted(set((rows[:, 1] >> 8).tolist())):
                with av.open(str(files[file])) as opened:
                    shown = {f.pts: f.to_ndarray(format="rgb24") for f in opened.decode(video=0)}
                for row in np.flatnonzero(rows[:, 1] >> 8 == file).tolist():
                    (frame,) = store.read_frames(part, number, row, row + 1)
                    assert np.array_equal(frame, shown[int(rows[row, 0])]), (files[file], row)
                    frames += 1
    return frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = converted(options.directory, Path(folder))
        paths = videos(options.directory, store)
        equal = compared(paths, store)
        rounds = []
        for _ in range(options.rounds):
            rounds.append((seconds(plain, paths), seconds(ours, store)))
    frames = rounds[0][1][2]
    cpu = [p[0] / p[2] / (o[0] / o[2]) for p, o in rounds]
    clock = [p[1] / p[2] / (o[1] / o[2]) for p, o in rounds]
    figures = {
        "frames": frames,
        "equal": equal,
        "plain_frames_per_cpu_s": rounds[0][0][2] / statistics.median(p[0] for p, _ in rounds),
        "ours_frames_per_cpu_s": frames / statistics.median(o[0] for _, o in rounds),
        "ratio_cpu": statistics.median(cpu),
        "ratio_clock": statistics.median(clock),
        "ratio_cpu_range": [min(cpu), max(cpu)],
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(figures, indent=2))
    if options.json:
        options.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
