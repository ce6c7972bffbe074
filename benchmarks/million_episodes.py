"""A million episodes, 50 million steps: open the store, plan work, shuffle, find a step.

    python benchmarks/million_episodes.py [--episodes 1000000] [--parts 4000] [--check] [--json OUT]

An EpisodeStore is generated without pixels and then used in a separate process.

Real: the directories and files of every part, every manifest (with its own episode lengths and
valid digests), and the tables of the first part, written by the code of `convert`. Not real: the
values; and the tables of the other parts are hard links to the first one's (all parts have the same
episode lengths, each in a different order), so that 5 GB need not be written. Every part was just
written, so the page cache is warm. The baseline is a shuffle by a table, as in `numpy.random`. Peak
memory is that of the whole process, including imports (VmHWM).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import google_crc32c
import numpy as np

from depthtok.data import Camera
from depthtok.disk.images import ImageFiles
from depthtok.frames.spans import SpanSource
from depthtok.orientation import Orientation
from depthtok.sources.pixels import PixelFormat
from depthtok.stores.episodes import INSTRUCTIONS, EpisodeStore, View, array_specs
from depthtok.stores.filling import create, write_part
from depthtok.stores.frame_files import PACKED, files_of
from depthtok.stores.manifest import MANIFEST, pack_manifest
from depthtok.stores.part_writer import PartWriter
from depthtok.stores.parts import PartName, ShardKey, shard_name
from depthtok.stores.spec import StoreSpec

STEPS = 50  # per episode, on average
ACTION, PROPRIO, CAMERAS = 7, 8, ("image", "wrist_image")
JPEG = 27_000  # bytes of one 256x256 frame at quality 95
# Memory beyond what is imported: torch alone takes 230 MB, and several times that with CUDA.
LIMITS = {"open_s": 5.0, "own_mb": 270.0, "image_us": 50.0}
BATCH = 64


def spec(parts: int, source_root: Path) -> StoreSpec:
    """A store of two cameras, in `parts` shards."""
    cameras = [Camera(name, 256, 256, Orientation.MIRROR) for name in CAMERAS]
    pixels = PixelFormat("jpeg", "uint8", (256, 256, 3))
    return StoreSpec(
        type="episodes",
        stage="convert",
        stage_version=1,
        what={"generated": True},
        about={
            "dataset": "generated",
            "version": "1.0.0",
            "fps": 20.0,
            "cameras": [asdict(camera) for camera in cameras],
            "views": [View(name, "rgb", pixels).to_json() for name in CAMERAS],
            "action_dim": ACTION,
            "proprio_dim": PROPRIO,
            "gripper": [6],
            "action_names": [*map(str, range(ACTION - 1)), "gripper"],
            "proprio_names": [*map(str, range(PROPRIO))],
            "gripper_convention": "unknown",
        },
        upstream="0" * 64,
        shards={"train": parts},
        place={"source_root": str(source_root)},
    )


def lengths(episodes: int) -> np.ndarray:
    """Steps of the episodes of a part: 26 to 74, exactly `STEPS` on average."""
    away = np.resize(np.arange(1, STEPS // 2), episodes // 2)
    return np.concatenate([STEPS - away, STEPS + away, [STEPS] * (episodes % 2)]).astype(int)


def fill(writer: PartWriter, frames: np.ndarray, image: Callable[[int], np.ndarray]) -> None:
    """Fills a part with the tables of `convert`; `image(step)` is the index entry of both views."""
    rng = np.random.default_rng(0)
    (writer.directory / INSTRUCTIONS).write_text('["put the bowl on the plate"]')
    row = 0
    for index, count in enumerate(frames.tolist()):
        writer.append("action", rng.standard_normal((count, ACTION), np.float32))
        writer.append("proprio", rng.standard_normal((count, PROPRIO), np.float32))
        writer.append("instruction", np.zeros(count, np.uint32))
        writer.append("images", np.stack([image(step) for step in range(row, row + count)]))
        intrinsics = np.full((len(CAMERAS), 9), np.nan, np.float32)
        writer.end(index, count, intrinsics=intrinsics)
        row += count


def _somewhere(step: int) -> np.ndarray:
    places = (2 * step + np.arange(2)) * JPEG
    columns = (places & 0xFFFFFFFF, places >> 32, [JPEG] * 2, [step] * 2)
    return np.stack(columns, axis=1).astype(np.uint32)


def generate(path: Path, episodes: int, parts: int) -> None:
    """An EpisodeStore of `parts` parts, each of `episodes // parts` episodes."""
    frames = lengths(episodes // parts)
    source = path.with_name(f"{path.name}.shards")
    source.mkdir()
    store = spec(parts, source)
    create(path, store)
    specs = array_specs(ACTION, PROPRIO, len(CAMERAS), len(CAMERAS))
    for number in range(parts):
        name = PartName(shard_name("train", number, parts))
        shard = ShardKey("generated", "1.0.0", "train", number, parts)
        (source / str(name)).touch()
        if number == 0:

            def first(writer: PartWriter, name: PartName = name) -> None:
                writer.meta["source"] = str(name)
                fill(writer, frames, _somewhere)

            write_part(path, store, name, shard, specs, first, upstream="")
            model = path / "parts" / str(name)
            content = json.loads((model / MANIFEST).read_bytes())
            del content["sha256"]
            continue
        order = np.random.default_rng(number).permutation(frames)
        same = {**content, "part": str(name), "shard": asdict(shard)}
        same["meta"] = {"source": str(name)}
        same["episodes"] = {**content["episodes"], "frames": order.tolist()}
        _link(model, path / "parts" / str(name), same)


def _link(model: Path, directory: Path, content: Mapping) -> None:
    """A part with the files of another one and its own manifest."""
    for name in content["files"]:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(model / name, directory / name)
    (directory / MANIFEST).write_bytes(pack_manifest(content))


def peak_mb() -> float:
    """Peak resident memory of this process."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1000


def measure(path: Path) -> dict[str, float]:
    """The cost of opening, planning, shuffling and looking up. Meant for a fresh process."""
    from depthtok.shuffle import Permutation
    from pipelines.annotate.stage import AnnotateStage
    from pipelines.config import AnnotateConfig

    figures = {"imported_mb": peak_mb()}
    started, busy = time.perf_counter(), time.process_time()
    store = EpisodeStore(path)
    store.require_complete()
    figures |= {"episodes": len(store), "steps": store.steps, "parts": len(store.part_names)}
    figures |= {"open_s": time.perf_counter() - started, "open_cpu_s": time.process_time() - busy}
    figures["opened_mb"] = peak_mb()
    started = time.perf_counter()
    work = AnnotateStage(store, path.with_name("depth"), AnnotateConfig(), "cpu").work()
    figures |= {"plan_s": time.perf_counter() - started, "planned_parts": len(work)}
    assert sum(part.frames for part in work) == store.steps * len(CAMERAS)
    started = time.perf_counter()
    order = Permutation(store.steps, (0, 0))
    figures["shuffle_s"] = time.perf_counter() - started
    rng = np.random.default_rng(0)
    positions = rng.integers(store.steps, size=20_000)
    figures["batch_us"] = 1e6 * median(
        lambda start: order(np.arange(start, start + BATCH)),
        np.minimum(positions[:2000], store.steps - BATCH),
    )
    figures["locate_us"] = 1e6 * median(store.locate, positions)
    figures["episode_us"] = 1e6 * median(lambda step: _place(store, step), positions)
    figures["peak_mb"] = peak_mb()
    figures["own_mb"] = figures["peak_mb"] - figures["imported_mb"]
    figures["epoch_s"] = exact(order, store.steps)
    figures |= by_table(store.steps)
    return figures


def median(call: Callable[[int], object], arguments: np.ndarray) -> float:
    """Median seconds of a call."""
    seconds = []
    for argument in arguments.tolist():
        started = time.perf_counter()
        call(argument)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _place(store: EpisodeStore, step: int) -> tuple[str, int]:
    """Part and row of a step: all that its tables and images need."""
    number, within = store.locate(step)
    episode = store.episode(number)
    return episode.part.name, episode.start + within


def exact(order: Callable[[np.ndarray], np.ndarray], steps: int) -> float:
    """Seconds to draw a whole epoch; every step must be drawn once."""
    visited = np.zeros(steps, bool)
    started = time.perf_counter()
    for start in range(0, steps, 1 << 16):
        visited[order(np.arange(start, min(start + (1 << 16), steps)))] = True
    seconds = time.perf_counter() - started
    assert visited.all(), "a step was drawn twice, and another one never"
    return seconds


def by_table(steps: int) -> dict[str, float]:
    """The same with a shuffled table of all steps: seconds to the first step, and its size."""
    started = time.perf_counter()
    table = np.random.default_rng(0).permutation(steps)
    return {"table_s": time.perf_counter() - started, "table_mb": table.nbytes / 1e6}


def pixels(path: Path, steps: int = 200) -> Path:
    """A store with packed images: random bytes of the size of a frame."""
    store = spec(1, path)
    create(path, store)
    specs = array_specs(ACTION, PROPRIO, len(CAMERAS), len(CAMERAS))
    data = np.random.default_rng(0).bytes(JPEG)

    def entry(step: int) -> np.ndarray:
        crc = google_crc32c.value(data)
        places = (2 * step + np.arange(2)) * JPEG
        return np.stack([places, [0, 0], [JPEG] * 2, [crc] * 2], axis=1).astype(np.uint32)

    def first(writer: PartWriter) -> None:
        writer.meta["source"] = None
        (writer.directory / PACKED).write_bytes(data * (2 * steps))
        fill(writer, np.array([steps]), entry)

    shard = ShardKey("generated", "1.0.0", "train", 0, 1)
    write_part(path, store, PartName(shard_name("train", 0, 1)), shard, specs, first, upstream="")
    return path


def image_us(store: EpisodeStore) -> float:
    """Microseconds to the bytes of one frame of a random step, CRC32C checked, page cache warm."""
    steps = np.random.default_rng(0).integers(store.steps, size=2000)
    source = SpanSource(store.views[0], ImageFiles())

    def read(step: int) -> bytes:
        number, within = store.locate(step)
        episode = store.episode(number)
        rows = store.table(episode.part, "images")[episode.start + within :][:1, 0]
        files = files_of(episode.part, store.source_root, store.views[0])
        return next(source.encoded(files, rows))

    median(read, steps)  # warm-up
    return 1e6 * median(read, steps)


def over(found: Mapping[str, float]) -> list[str]:
    """The limits that are exceeded."""
    return [f"{k}: {found[k]:.1f}, at most {v:g}" for k, v in LIMITS.items() if found[k] > v]


def run(folder: Path, episodes: int, parts: int, images: Path | None) -> dict[str, float]:
    """Generates a store in `folder` and measures it in a fresh process."""
    started = time.perf_counter()
    generate(folder / "episodes", episodes, parts)
    written_s = time.perf_counter() - started
    command = [sys.executable, __file__, "--measure", str(folder / "episodes")]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    store = EpisodeStore(images or pixels(folder / "pixels"))
    return {"generate_s": written_s, **json.loads(done.stdout), "image_us": image_us(store)}


def main() -> None:
    """Prints the figures; with --check exits with 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=1_000_000)
    parser.add_argument("--parts", type=int, default=4_000)
    parser.add_argument("--images", type=Path, help="read frames from this EpisodeStore instead")
    parser.add_argument("--check", action="store_true", help="fail if a limit is exceeded")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    with tempfile.TemporaryDirectory() as folder:
        figures = run(Path(folder), options.episodes, options.parts, options.images)
    for name, value in figures.items():
        print(f"{name:>14}  {value:,.2f}" if isinstance(value, float) else f"{name:>14}  {value:,}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    if options.check and (broken := over(figures)):
        sys.exit("\n".join(broken))


if __name__ == "__main__":
    main()
