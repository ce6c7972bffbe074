"""Training samples from an RLDS data set: our loader against a tf.data pipeline.

    python benchmarks/vla_loader.py RLDS_DIR [--camera image] [--rounds 3] [--batches 40]

The pipeline is the one that published VLA code trains with: tensorflow-datasets with decoding
skipped, actions gathered into chunks, steps flattened, repeated, shuffled through a buffer of
10,000 encoded samples, then decoded, resized (Lanczos3, antialiased, 224 px, as ours) and batched.
Every side runs in a process of its own, one loading thread each; they take turns. Reported are
medians: memory above what the imports take, seconds from opening the data to the first batch, and
samples a CPU second after that, all threads counted.

`cached` is ours with frames decoded beforehand; the cache is a memory map, so of its memory only
what is not the file's own pages counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

SIZE, CHUNK, BATCH, BUFFER = 224, 4, 16, 10_000
SIDES = ("tf.data", "depthtok", "cached")


def memory_mb() -> float:
    """Memory of this process that is not pages of mapped files, MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def tensorflow_batches(source: Path, camera: str) -> Iterator[object]:
    """The tf.data pipeline."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    tf.config.set_visible_devices([], "GPU")
    builder = tfds.builder_from_directory(source)
    pictures = builder.info.features["steps"]["observation"]
    skip = {name: tfds.decode.SkipDecoding() for name, feature in pictures.items()
            if isinstance(feature, tfds.features.Image)}  # fmt: skip
    decoders = {"steps": {"observation": skip}}
    reading = tfds.ReadConfig(interleave_cycle_length=1, num_parallel_calls_for_decode=1)

    def chunked(episode):
        steps = episode["steps"].batch(100_000).get_single_element()
        count = tf.shape(steps["action"])[0]
        ahead = tf.minimum(tf.range(count)[:, None] + tf.range(CHUNK), count - 1)
        return tf.data.Dataset.from_tensor_slices({
            "image": steps["observation"][camera], "state": steps["observation"]["state"],
            "text": steps["language_instruction"], "actions": tf.gather(steps["action"], ahead),
        })  # fmt: skip

    def decoded(sample):
        image = tf.io.decode_jpeg(sample["image"])
        image = tf.image.resize(image, (SIZE, SIZE), method="lanczos3", antialias=True)
        image = tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)
        return {**sample, "image": image}

    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    data = builder.as_dataset("train", decoders=decoders, read_config=reading)
    data = data.flat_map(chunked).repeat().shuffle(BUFFER, seed=0)
    data = data.map(decoded, num_parallel_calls=1).batch(BATCH).prefetch(2)
    return data.with_options(options).as_numpy_iterator()


def our_batches(store: Path, camera: str, cache: Path | None) -> Iterator[object]:
    """The loader of `train-vla`."""
    from depthtok.episodes import EpisodeStore
    from vla.data import Dataset
    from vla.frames import FrameCache
    from vla.loader import Loader
    from vla.member import member
    from vla.named import load
    from vla.tokenizer import ByteTokenizer

    episodes = EpisodeStore(store)
    config = load("tiny+no-depth-loss", {
        "model.vision.image_size": SIZE, "model.chunk": CHUNK, "data.cameras": (camera,),
        "model.action_dim": episodes.action_dim, "model.proprio_dim": episodes.proprio_dim,
    })  # fmt: skip
    frames = FrameCache.open(cache, episodes, (camera,), SIZE) if cache else None
    joined = member("set", episodes, None, config, frames=frames)
    dataset = Dataset([joined], config, ByteTokenizer())
    return iter(Loader(dataset, BATCH, seed=0, workers=1))


def measure(side: str, source: Path, store: Path, camera: str, batches: int) -> dict[str, float]:
    """One side, in this process."""
    if side == "tf.data":
        import tensorflow as tf
        import tensorflow_datasets  # noqa: F401

        tf.constant(1).numpy()
    else:
        import torch

        torch.set_num_threads(1)
    before = memory_mb()
    begun = time.perf_counter()
    if side == "tf.data":
        made = tensorflow_batches(source, camera)
    else:
        made = our_batches(store, camera, store.parent / "frames" if side == "cached" else None)
    next(made)
    first = time.perf_counter() - begun
    spent = time.process_time()
    for _ in range(batches):
        next(made)
    spent = time.process_time() - spent
    return {
        "memory_mb": memory_mb() - before, "first_s": first,
        "per_cpu_s": batches * BATCH / spent,
    }  # fmt: skip


def convert(source: Path, folder: Path, camera: str) -> Path:
    """An EpisodeStore of the data set, and its frame cache."""
    store = folder / "episodes"
    command = [sys.executable, "-m", "depthtok.cli", "convert", str(source), "--out", str(store)]
    subprocess.run([*command, "--workers", "0"], check=True, stdout=subprocess.DEVNULL)
    next(our_batches(store, camera, folder / "frames"))
    return store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, metavar="RLDS_DIR")
    parser.add_argument("--camera", default="image", help="its name, and its key in observation")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        found = measure(given.side, given.source, given.store, given.camera, given.batches)
        print(json.dumps(found))
        sys.stdout.flush()
        sys.exit(0)
    with tempfile.TemporaryDirectory() as folder:
        store = convert(given.source, Path(folder), given.camera)
        runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for _ in range(given.rounds):
            for side in SIDES:
                command = [sys.executable, __file__, *sys.argv[1:], "--side", side]
                done = subprocess.run(
                    [*command, "--store", str(store)], check=True, capture_output=True, text=True
                )
                runs[side].append(json.loads(done.stdout.splitlines()[-1]))
    report(runs)


def report(runs: dict[str, list[dict[str, float]]]) -> None:
    """Medians, and what they are against tf.data."""
    medians = {
        side: {name: statistics.median(run[name] for run in found) for name in found[0]}
        for side, found in runs.items()
    }
    print(f"{'':10}{'memory MB':>14}{'first batch s':>18}{'samples/CPU s':>18}")
    base = medians["tf.data"]
    for side, found in medians.items():
        ratios = (
            base["memory_mb"] / max(found["memory_mb"], 0.1),
            base["first_s"] / found["first_s"],
            found["per_cpu_s"] / base["per_cpu_s"],
        )
        cells = zip(found.values(), ratios, strict=True)
        print(f"{side:10}" + "".join(f"{value:9.4g} ({ratio:5.3g}x)" for value, ratio in cells))


if __name__ == "__main__":
    main()
