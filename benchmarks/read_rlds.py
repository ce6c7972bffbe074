"""Reading an RLDS data set: this package against tensorflow-datasets.

    python benchmarks/read_rlds.py DIRECTORY [--rounds 3] [--json OUT]

Both decode two JPEG cameras of every step, and return actions and instructions too. The baseline is
the fastest known way with tensorflow-datasets: decoding skipped in the builder, tf.io.decode_jpeg
in a parallel tf.data map, read as numpy; its parallelism is tried with one call and with
"autotune", and the better one is used. Every run is a separate process, rounds are interleaved. CPU
seconds are user and system time of the process and its children, from after the imports to the last
frame; starting is what came before: Python and the imports. Peak memory is that of the whole
process, including imports. The page cache is warmed first.
Random access to a frame is one read at an indexed offset, with its checksum verified.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

OURS, ONE, AUTO = "depthtok", "tfds, one call", "tfds, autotune"


def cpu_seconds() -> float:
    """User and system time of this process and its children."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in usage)


def read_ours(directory: str, split: str, passes: int) -> dict:
    """Reads every step with this package."""
    from depthtok.sources.pixels import PixelFormat
    from depthtok.sources.rlds import RldsDirectory

    imported, steps = cpu_seconds(), 0
    data = RldsDirectory.open(directory)
    cameras = jpeg_cameras(data)
    layouts = {path: PixelFormat.of(data.features[path]) for path in cameras}
    for _ in range(passes):
        for shard in data.splits[split].shards:
            for episode in data.records(shard):
                episode.values("steps/action")
                episode.text("steps/language_instruction")
                for frames in zip(*(episode.items(path) for path in cameras), strict=True):
                    for path, frame in zip(cameras, frames, strict=True):
                        layouts[path].decode(frame)
                    steps += 1
    return {"steps": steps, "cpu_s": cpu_seconds() - imported, "start_s": imported}


def jpeg_cameras(data) -> list[str]:
    """The first two JPEG cameras of a data set."""
    return [path for path, feature in data.features.items() if feature.encoding == "jpeg"][:2]


def read_tfds(directory: str, split: str, passes: int, calls: int | None) -> dict:
    """Reads every step with tensorflow-datasets."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    from depthtok.sources.rlds import RldsDirectory

    imported, steps = cpu_seconds(), 0
    cameras = [path.split("/")[1:] for path in jpeg_cameras(RldsDirectory.open(directory))]
    calls = tf.data.AUTOTUNE if calls is None else calls

    def flat(episode):
        step = episode["steps"]
        frames = [step[group][name] for group, name in cameras]
        return tf.data.Dataset.from_tensor_slices(
            (*frames, step["action"], step["language_instruction"])
        )

    def decode(*step):
        images = [tf.io.decode_jpeg(data, channels=3) for data in step[: len(cameras)]]
        return (*images, *step[len(cameras) :])

    builder = tfds.builder_from_directory(directory)
    dataset = builder.as_dataset(
        split,
        decoders={"steps": tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(try_autocache=False),
    )
    dataset = dataset.flat_map(flat).map(decode, num_parallel_calls=calls).prefetch(calls)
    for _ in range(passes):
        steps += sum(1 for _ in dataset.as_numpy_iterator())
    return {"steps": steps, "cpu_s": cpu_seconds() - imported, "start_s": imported}


def random_access(directory: str, split: str, count: int = 2000) -> dict:
    """Microseconds per frame: bytes with verified checksum, and decoded."""
    import os
    import random

    import google_crc32c

    from depthtok.sources.pixels import PixelFormat
    from depthtok.sources.rlds import RldsDirectory

    data = RldsDirectory.open(directory)
    camera, index = jpeg_cameras(data)[0], []
    layout = PixelFormat.of(data.features[camera])
    for shard in data.splits[split].shards:
        file = os.open(shard.path, os.O_RDONLY)
        for episode in data.records(shard):
            spans = episode.spans(camera)
            columns = (spans.offset.tolist(), spans.length.tolist(), spans.crc32c.tolist())
            index += [(file, *row) for row in zip(*columns, strict=True)]
    chosen = random.Random(0).choices(index, k=count)
    times = {}
    for name, decoding in (("bytes_us", False), ("decoded_us", True)):
        durations = []
        for file, offset, length, crc in chosen:
            start = time.perf_counter()
            frame = os.pread(file, length, offset)
            if google_crc32c.value(frame) != crc:
                raise SystemExit("a frame changed")
            if decoding:
                layout.decode(frame)
            durations.append(time.perf_counter() - start)
        times[name] = statistics.median(durations) * 1e6
    return times


def run_one(path: str, directory: str, split: str, passes: int) -> dict:
    """Runs one path in this process."""
    if path == "random access":
        return random_access(directory, split)
    if path == OURS:
        result = read_ours(directory, split, passes)
    else:
        result = read_tfds(directory, split, passes, 1 if path == ONE else None)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return result | {"peak_mb": peak, "steps_per_cpu_s": result["steps"] / result["cpu_s"]}


def spawn(path: str, options: argparse.Namespace) -> dict:
    """Runs one path in a new process."""
    command = [sys.executable, __file__, options.directory, "--split", options.split]
    command += ["--passes", str(options.passes), "--path", path]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{path} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(options: argparse.Namespace) -> dict:
    """Runs all paths, interleaved; returns medians and ratios."""
    for file in Path(options.directory).rglob("*.tfrecord*"):
        file.read_bytes()
    runs: dict[str, list[dict]] = {OURS: [], ONE: [], AUTO: []}
    for _ in range(options.rounds):
        for path, results in runs.items():
            results.append(spawn(path, options))
    middle = {
        path: {key: statistics.median(run[key] for run in results) for key in results[0]}
        for path, results in runs.items()
    }
    if len({row["steps"] for row in middle.values()}) > 1:
        raise SystemExit(f"the paths read different numbers of steps: {middle}")
    best = max((ONE, AUTO), key=lambda path: middle[path]["steps_per_cpu_s"])
    return {
        "directory": Path(options.directory).name,
        "rounds": options.rounds,
        "median": middle,
        "baseline": best,
        "speed_ratio": middle[OURS]["steps_per_cpu_s"] / middle[best]["steps_per_cpu_s"],
        "speed_ratios": [
            ours["steps_per_cpu_s"] / other["steps_per_cpu_s"]
            for ours, other in zip(runs[OURS], runs[best], strict=True)
        ],
        "memory_ratio": middle[OURS]["peak_mb"] / middle[best]["peak_mb"],
        "random_access": spawn("random access", options),
    }


def report(result: dict) -> None:
    """Prints the result as a table."""
    print(f"{'path':16} {'steps/cpu-s':>12} {'cpu-s':>8} {'start cpu-s':>12} {'peak MB':>8}")
    for path, row in result["median"].items():
        speed, spent = f"{row['steps_per_cpu_s']:12.0f} {row['cpu_s']:8.2f}", row["start_s"]
        print(f"{path:16} {speed} {spent:12.2f} {row['peak_mb']:8.0f}")
    ratios = ", ".join(f"{ratio:.2f}" for ratio in result["speed_ratios"])
    print(
        f"against '{result['baseline']}': {result['speed_ratio']:.2f} times the steps per CPU "
        f"second (rounds: {ratios}) in {result['memory_ratio']:.3f} of the memory"
    )
    access = result["random_access"]
    print(
        f"random access to a frame: {access['bytes_us']:.0f} us for verified bytes, "
        f"{access['decoded_us']:.0f} us decoded"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", help="version directory of a data set with two JPEG cameras")
    parser.add_argument("--split", default="train")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--passes", type=int, default=2, help="passes over the data per run")
    parser.add_argument("--json", help="also write the result to this file")
    parser.add_argument("--path", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.path:
        print(json.dumps(run_one(options.path, options.directory, options.split, options.passes)))
        return
    result = compare(options)
    report(result)
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
