"""Depth frames per second on a GPU, including reading and decoding of JPEG frames.

Clips are kept as JPEG bytes and decoded by reader threads, as from a data set; depth is returned as
float32 on the host, at the frames' resolution. Weights are random, which does not affect speed.
Without a CUDA device the same runs on the CPU at a small size, to show that it works.

    python benchmarks/vida_gpu.py --network vits vitl --size 518 --precision float16
"""

from __future__ import annotations

import argparse
import json
import threading
import time

import numpy as np
import simplejpeg
import torch

from depthtok.data import Camera
from pipelines.vida.config import CONFIGS, RunConfig
from pipelines.vida.estimator import device_name
from pipelines.vida.finetune import fresh_network
from pipelines.vida.infer import estimate
from pipelines.vida.runner import Runner


class JpegClip:
    """A clip of JPEG images in memory, decoded when read."""

    def __init__(self, images: list[bytes], side: int) -> None:
        self.images = images
        self.camera = Camera("front", side, side)

    def __len__(self) -> int:
        return len(self.images)

    def read(self, start: int, stop: int) -> np.ndarray:
        return np.stack([simplejpeg.decode_jpeg(image) for image in self.images[start:stop]])


def made_clips(count: int, frames: int, side: int) -> list[JpegClip]:
    """Drifting images of blocks, which compress about as well as camera frames."""
    rng = np.random.default_rng(1)
    clips = []
    for _ in range(count):
        wide = rng.integers(0, 256, (side // 8 + 1, (side + frames) // 8 + 1, 3), dtype=np.uint8)
        wide = wide.repeat(8, 0).repeat(8, 1)
        views = (np.ascontiguousarray(wide[:side, t : t + side]) for t in range(frames))
        clips.append(JpegClip([simplejpeg.encode_jpeg(view, quality=95) for view in views], side))
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


def measure(name: str, clips: list[JpegClip], run: RunConfig, device: torch.device) -> dict:
    """Frames per second over all clips, after a first clip to warm up."""
    runner = Runner(fresh_network(CONFIGS[name], seed=0), run, device)
    for _ in estimate(runner, clips[:1]):
        pass
    started = time.perf_counter()
    frames = 0
    with BusyMeter(device) as meter:
        for block in estimate(runner, clips):
            frames += len(block.depth)
    seconds = time.perf_counter() - started
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    return {
        "network": name,
        "device": device_name(device),
        "input_size": runner.input_size,
        "precision": runner.precision,
        "windows": runner.windows,
        "compiled": run.compile,
        "frames": frames,
        "frames_per_second": frames / seconds,
        "busy_percent": meter.percent,
        "peak_gib": peak,
    }


def main() -> None:
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", nargs="+", default=["vits", "vitl"] if gpu else ["tiny"])
    parser.add_argument("--size", type=int, default=518 if gpu else 140, help="input size, px")
    parser.add_argument("--clips", type=int, default=40 if gpu else 3)
    parser.add_argument("--frames", type=int, default=150 if gpu else 26, help="frames per clip")
    parser.add_argument("--side", type=int, default=256, help="side of a frame, px")
    parser.add_argument("--precision", default=None, help="float16, bfloat16 or float32")
    parser.add_argument("--readers", type=int, default=4 if gpu else 0, help="decoding threads")
    parser.add_argument("--memory-gb", type=float, default=16.0)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    clips = made_clips(options.clips, options.frames, options.side)
    run = RunConfig(
        input_size=options.size,
        precision=options.precision,
        memory_gb=options.memory_gb,
        readers=options.readers,
        compile=options.compile,
    )
    device = torch.device("cuda" if gpu else "cpu")
    results = [measure(name, clips, run, device) for name in options.network]
    if options.json:
        print(json.dumps(results))
        return
    for row in results:
        busy = "" if row["busy_percent"] is None else f", GPU busy {row['busy_percent']:.0f} %"
        memory = "" if row["peak_gib"] is None else f", {row['peak_gib']:.1f} GiB"
        print(
            "{network} {input_size} px {precision} on {device}: {frames_per_second:.1f} frames/s "
            "over {frames} frames".format(**row)
            + busy
            + memory
        )


if __name__ == "__main__":
    main()
