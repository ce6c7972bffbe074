"""Depth frames per second on a GPU, including reading and decoding of JPEG frames.

Clips are kept as JPEG bytes and decoded by reader threads, as from a data set; depth is returned as
float32 on the host, at the frames' resolution. Weights are random, which does not affect speed.

The ways to run alternate, round by round, with upstream's plain algorithm (`--plain`) among them;
the figures are medians. Each is given as a share of its floor, the time that its FLOPs take at 790
TFLOP/s, and with what must hold before it may be a default: the same bytes in any company, and
as run eagerly. Without a CUDA device the same runs on the CPU at a small size, to show that it
works.

    python benchmarks/vida_gpu.py --plain --ways eager compile graphs compile+graphs
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from dataclasses import replace

import numpy as np
import simplejpeg
import torch
import vida_operators
import vida_speed

from depthtok.data import Camera, EpisodeKey
from depthtok.errors import SourceError
from pipelines.depth.vida.config import ATTENTIONS, CHOICES, CONFIGS, RunConfig
from pipelines.depth.vida.estimator import device_name
from pipelines.depth.vida.fresh import fresh_network
from pipelines.depth.vida.infer import estimate
from pipelines.depth.vida.network import VideoDepth
from pipelines.depth.vida.runner import Runner


class JpegClip:
    """A clip of JPEG images in memory, decoded when read."""

    fps = None

    def __init__(self, key: EpisodeKey, images: list[bytes], side: int) -> None:
        self.key, self.images = key, images
        self.camera = Camera("front", side, side)

    def __len__(self) -> int:
        return len(self.images)

    def read(self, start: int, stop: int) -> np.ndarray:
        return np.stack([simplejpeg.decode_jpeg(image) for image in self.images[start:stop]])

    def true_depth(self, start: int, stop: int) -> np.ndarray:
        raise SourceError("the images are made up, without depth")


def made_clips(count: int, frames: int, side: int) -> list[JpegClip]:
    """Drifting images of blocks, which compress about as well as camera frames."""
    rng = np.random.default_rng(1)
    clips = []
    for index in range(count):
        wide = rng.integers(0, 256, (side // 8 + 1, (side + frames) // 8 + 1, 3), dtype=np.uint8)
        wide = wide.repeat(8, 0).repeat(8, 1)
        views = (np.ascontiguousarray(wide[:side, t : t + side]) for t in range(frames))
        images = [simplejpeg.encode_jpeg(view, quality=95) for view in views]
        clips.append(JpegClip(EpisodeKey("made-up", "1", "train", 0, 1, index), images, side))
    return clips


class BusyMeter:
    """Share of time in which the GPU was busy, by polling its driver every 20 ms."""

    def __init__(self, device: torch.device) -> None:
        self.readings: list[int] = []
        self._device = device
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> BusyMeter:
        if self._device.type == "cuda":
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            try:
                self.readings.append(torch.cuda.utilization(self._device))
            except (ModuleNotFoundError, RuntimeError):  # no nvidia-ml-py: no figure
                return

    @property
    def percent(self) -> float | None:
        return sum(self.readings) / len(self.readings) if self.readings else None


def measure(runner: Runner, clips: list[JpegClip]) -> dict:
    """Frames per second over all clips. The runner is warm."""
    started, frames = time.perf_counter(), 0
    with BusyMeter(runner.device) as meter:
        for block in estimate(runner, clips):
            frames += len(block.depth)
    seconds = time.perf_counter() - started
    return {"frames_per_second": frames / seconds, "busy_percent": meter.percent}


def plain(network: VideoDepth, clip: JpegClip, size: int) -> dict:
    """The same of upstream's algorithm, on one clip."""
    started = time.perf_counter()
    vida_speed.plain_clip(network, clip.read(0, len(clip)), size)
    return {"frames_per_second": len(clip) / (time.perf_counter() - started), "busy_percent": None}


def depth_bytes(runner: Runner, clips: list[JpegClip]) -> list[bytes]:
    """The depth of each clip, to compare."""
    parts: list[list[bytes]] = [[] for _ in clips]
    for block in estimate(runner, clips):
        parts[block.clip].append(block.depth.values.tobytes())
    return [b"".join(values) for values in parts]


def checked(runner: Runner, clips: list[JpegClip], eager: list[bytes] | None) -> dict:
    """Whether the first clips have the same depth alone, and as run eagerly."""
    together = depth_bytes(runner, clips[:3])
    windows, runner.windows = runner.windows, 1
    alone = [depth_bytes(runner, [clip])[0] for clip in clips[:3]]
    runner.windows = windows
    return {
        "same_alone": alone == together,
        "same_as_eager": None if eager is None else together == eager,
        "depth": together,
    }


def compared(name: str, clips: list[JpegClip], options: argparse.Namespace) -> list[dict]:
    """All ways of running one network, alternately."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = RunConfig(
        input_size=options.size,
        precision=options.precision,
        readers=options.readers,
    )
    rows, runners, eager = {}, {}, None
    for way in options.ways:
        words = way.split("+")
        choices = {choice: choice in words for choice in CHOICES}
        attention = next((name for name in ATTENTIONS if name in words), "fused")
        started = time.perf_counter()
        runner = runners[way] = Runner(
            fresh_network(CONFIGS[name], seed=0),
            replace(run, attention=attention, **choices),
            device,
        )
        checks = checked(runner, clips, eager)
        depth = checks.pop("depth")
        eager = depth if way == "eager" else eager
        rows[way] = checks | {"seconds_to_start": time.perf_counter() - started}
    base = vida_speed.plain_network(vida_speed.random_network(name).to(device))
    speeds: dict[str, list[dict]] = {way: [] for way in (*options.ways, "plain")}
    for _ in range(options.rounds):
        for way, runner in runners.items():
            speeds[way].append(measure(runner, clips))
        if options.plain:
            speeds["plain"].append(plain(base, clips[0], options.size))
    runner = next(iter(runners.values()))
    batch, tally = vida_operators.count(name, options.size, runner.precision)
    floor = vida_operators.FLOPS_PER_S / (tally.total.flops / batch.frames)
    return [
        {
            "network": name,
            "way": way,
            "device": device_name(device),
            "precision": runner.precision,
            "floor": floor,
            **summary(measured),
            **rows.get(way, {}),
        }
        for way, measured in speeds.items()
        if measured
    ]


def summary(measured: list[dict]) -> dict:
    """Medians over the rounds."""
    columns = {key: [row[key] for row in measured] for key in measured[0]}
    return {
        key: None if None in values else statistics.median(values)
        for key, values in columns.items()
    }


def main() -> None:
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", nargs="+", default=["vits", "vitl"] if gpu else ["tiny"])
    parser.add_argument(
        "--ways",
        nargs="+",
        default=["eager"],
        help=f"eager, or some of {'+'.join([*CHOICES, *ATTENTIONS])}",
    )
    parser.add_argument("--plain", action="store_true", help="upstream's algorithm, too")
    parser.add_argument("--rounds", type=int, default=3 if gpu else 1)
    parser.add_argument("--size", type=int, default=518 if gpu else 28, help="input size, px")
    parser.add_argument("--clips", type=int, default=40 if gpu else 3)
    parser.add_argument("--frames", type=int, default=150 if gpu else 26, help="frames per clip")
    parser.add_argument("--side", type=int, default=256, help="side of a frame, px")
    parser.add_argument("--precision", default=None, help="float16, bfloat16 or float32")
    parser.add_argument("--readers", type=int, default=None, help="decoding threads")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    clips = made_clips(options.clips, options.frames, options.side)
    results = [row for name in options.network for row in compared(name, clips, options)]
    if options.json:
        print(json.dumps(results))
        return
    for row in results:
        print(told(row, results))


def told(row: dict, results: list[dict]) -> str:
    """One line for a way of running a network."""
    speed = row["frames_per_second"]
    text = f"{row['network']} {row['way']} {row['precision']} on {row['device']}: "
    text += f"{speed:.1f} frames/s, {speed / row['floor']:.1%} of the floor of {row['floor']:.0f}"
    for other in results:
        if (other["network"], other["way"]) == (row["network"], "plain") and other is not row:
            text += f", {speed / other['frames_per_second']:.1f} times the plain algorithm"
    if row["busy_percent"] is not None:
        text += f", GPU busy {row['busy_percent']:.0f} %"
    if "same_alone" in row:
        text += f"; bytes the same alone: {row['same_alone']}, as eager: {row['same_as_eager']}"
        text += f"; {row['seconds_to_start']:.0f} s to start"
    return text


if __name__ == "__main__":
    main()
