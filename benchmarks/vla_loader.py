"""Training samples from an RLDS data set: our loader against a tf.data pipeline.

    python benchmarks/vla_loader.py RLDS_DIR [--camera image] [--rounds 3] [--batches 40]
    python benchmarks/vla_loader.py --generate 20000

The pipeline is that of published VLA training code: tensorflow-datasets with decoding skipped,
actions gathered into chunks, steps flattened, repeated, shuffled through a buffer of 10,000 encoded
samples, then decoded, resized (Lanczos3, antialiased, 224 px, like ours) and batched. Each side is
run in a separate process with one loading thread, alternately. Medians are reported: memory in
addition to the imports, seconds from opening the data to the first batch (after the imports, on
both sides), samples per CPU second after that, over all threads, and frames per CPU second of
decoding alone.

`cached` is ours with frames decoded beforehand; the cache is a memory map, whose file pages are not
counted as memory.

A data set with fewer steps than the buffer fills it with what was just read. `--generate N` makes
one with N steps: the frames of the shipped sample (two cameras, JPEG, 256 px, 23 kB per step),
repeated, in the format of LIBERO's builders.
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
SHARDS = 16
DECODED = 400  # frames for decoding alone
SAMPLE = Path(__file__).parents[1] / "depthtok" / "sample" / "libero_sample" / "1.0.0"
SIDES = ("tf.data", "depthtok", "cached")


def memory_mb() -> float:
    """Memory of this process excluding pages of mapped files, MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def generate(path: Path, steps: int) -> Path:
    """An RLDS directory of at least `steps` steps, from the sample's own encoded frames."""
    from depthtok.sources.rlds import RldsDirectory
    from depthtok.sources.write import RldsWriter

    sample = RldsDirectory.open(SAMPLE)
    features = {
        name: feature
        for name, feature in sample.features.items()
        if not name.endswith(("depth", "segmentation"))
    }
    episodes = []
    for shard in sample.splits["train"].shards:
        content = shard.path.read_bytes()
        for raw in sample.records(shard):
            read = {
                "image": lambda name, raw=raw, content=content: encoded(raw.spans(name), content),
                "text": raw.text,
            }
            episodes.append({n: read.get(f.kind, raw.values)(n) for n, f in features.items()})
    steps_each = len(episodes[0]["steps/action"])
    count = -(-steps // (steps_each * SHARDS))  # episodes per shard
    writer = RldsWriter(path, "libero_sim", "1.0.0", features)
    for shard in range(SHARDS):
        numbers = range(shard * count, (shard + 1) * count)
        writer.write_shard("train", shard, SHARDS, (episodes[n % len(episodes)] for n in numbers))
    return writer.finish()


def encoded(spans, content: bytes) -> list[bytes]:
    """The bytes of every image, as stored in a shard."""
    pairs = zip(spans.offset.tolist(), spans.length.tolist(), strict=True)
    return [content[offset : offset + length] for offset, length in pairs]


def frames_of(camera: str) -> list[bytes]:
    """Encoded frames of the sample, to be decoded."""
    from depthtok.sources.rlds import RldsDirectory

    shard = (sample := RldsDirectory.open(SAMPLE)).splits["train"].shards[0]
    content, images = shard.path.read_bytes(), []
    for raw in sample.records(shard):
        images += encoded(raw.spans(f"steps/observation/{camera}"), content)
    return (images * (DECODED // len(images) + 1))[:DECODED]


def decoded_per_cpu_s(side: str, frames: list[bytes]) -> float:
    """Frames per CPU second of JPEG decoding."""
    if side == "tf.data":
        import tensorflow as tf

        options = tf.data.Options()
        options.threading.private_threadpool_size = 1
        data = tf.data.Dataset.from_tensor_slices(frames).map(tf.io.decode_jpeg)
        passes = [iter(data.with_options(options)) for _ in range(2)]
    else:
        from depthtok.sources.pixels import PixelFormat

        pixels = PixelFormat("jpeg", "uint8", (None, None, 3))
        passes = [map(pixels.decode, frames) for _ in range(2)]
    for frame in passes[0]:  # warm-up
        assert frame.shape[2] == 3
    spent = time.process_time()
    count = sum(1 for _ in passes[1])
    return count / (time.process_time() - spent)


def tensorflow_batches(source: Path, camera: str) -> Iterator[object]:
    """The tf.data pipeline."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    tf.config.set_visible_devices([], "GPU")
    builder = tfds.builder_from_directory(source)
    pictures = builder.info.features["steps"]["observation"]
    skip = {
        name: tfds.decode.SkipDecoding()
        for name, feature in pictures.items()
        if isinstance(feature, tfds.features.Image)
    }
    decoders = {"steps": {"observation": skip}}
    reading = tfds.ReadConfig(interleave_cycle_length=1, num_parallel_calls_for_decode=1)

    def chunked(episode):
        steps = episode["steps"].batch(100_000).get_single_element()
        count = tf.shape(steps["action"])[0]
        ahead = tf.minimum(tf.range(count)[:, None] + tf.range(CHUNK), count - 1)
        return tf.data.Dataset.from_tensor_slices(
            {
                "image": steps["observation"][camera],
                "state": steps["observation"]["state"],
                "text": steps["language_instruction"],
                "actions": tf.gather(steps["action"], ahead),
            }
        )

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
    from depthtok.stores.episodes import EpisodeStore
    from vla.data.dataset import Dataset
    from vla.data.frames import FrameCache
    from vla.data.loader import Loader
    from vla.data.member import member
    from vla.data.tokenizer import ByteTokenizer
    from vla.named_configs import load

    episodes = EpisodeStore(store)
    config = load(
        "tiny+no-depth-loss",
        {
            "model.vision.image_size": SIZE,
            "model.chunk": CHUNK,
            "data.cameras": (camera,),
            "model.action_dim": episodes.action_dim,
            "model.proprio_dim": episodes.proprio_dim,
        },
    )
    frames = FrameCache.open(cache, episodes, (camera,), SIZE) if cache else None
    joined = member("set", episodes, None, config, frames=frames)
    dataset = Dataset([joined], config, ByteTokenizer())
    return iter(Loader(dataset, BATCH, seed=0, threads=1))


def measure(side: str, source: Path, store: Path, camera: str, batches: int) -> dict[str, float]:
    """Measures one side in this process."""
    if side == "tf.data":
        import tensorflow as tf
        import tensorflow_datasets  # noqa: F401

        tf.constant(1).numpy()
    else:
        import torch

        from depthtok.stores import episodes  # noqa: F401
        from vla import named_configs as named  # noqa: F401
        from vla.data import frames, loader  # noqa: F401

        torch.set_num_threads(1)
    before = memory_mb()
    started = time.perf_counter()
    if side == "tf.data":
        loaded = tensorflow_batches(source, camera)
    else:
        loaded = our_batches(store, camera, store.parent / "frames" if side == "cached" else None)
    next(loaded)
    first = time.perf_counter() - started
    spent = time.process_time()
    for _ in range(batches):
        next(loaded)
    spent = time.process_time() - spent
    return {
        "memory_mb": memory_mb() - before,
        "first_s": first,
        "per_cpu_s": batches * BATCH / spent,
        "decoded": decoded_per_cpu_s(side, frames_of("image")),
    }


def convert(source: Path, folder: Path, camera: str) -> Path:
    """Makes an EpisodeStore of the data set, and its frame cache."""
    store = folder / "episodes"
    command = [
        sys.executable,
        "-m",
        "depthtok.cli.main",
        "convert",
        str(source),
        "--out",
        str(store),
    ]
    subprocess.run([*command, "--workers", "0"], check=True, stdout=subprocess.DEVNULL)
    next(our_batches(store, camera, folder / "frames"))
    return store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, metavar="RLDS_DIR", nargs="?")
    parser.add_argument("--generate", type=int, metavar="STEPS", help="make a data set instead")
    parser.add_argument(
        "--camera", default="image", help="name of the camera, and its key in observation"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if (options.source is None) == (options.generate is None):
        parser.error("give RLDS_DIR, or --generate STEPS")
    if options.side:
        figures = measure(
            options.side, options.source, options.store, options.camera, options.batches
        )
        print(json.dumps(figures))
        sys.stdout.flush()
        sys.exit(0)
    with tempfile.TemporaryDirectory() as folder:
        source = options.source or generate(Path(folder) / "libero_sim" / "1.0.0", options.generate)
        store = convert(source, Path(folder), options.camera)
        runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for _ in range(options.rounds):
            for side in SIDES:
                command = [
                    sys.executable,
                    __file__,
                    str(source),
                    "--camera",
                    options.camera,
                    "--batches",
                    str(options.batches),
                    "--side",
                    side,
                    "--store",
                    str(store),
                ]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                runs[side].append(json.loads(done.stdout.splitlines()[-1]))
    report(runs)


def report(runs: dict[str, list[dict[str, float]]]) -> None:
    """Prints medians, and ratios to tf.data."""
    medians = {
        side: {name: statistics.median(run[name] for run in rates) for name in rates[0]}
        for side, rates in runs.items()
    }
    titles = ("memory MB", "first batch s", "samples/CPU s", "decoded/CPU s")
    print(f"{'':10}" + "".join(f"{title:>18}" for title in titles))
    base = medians["tf.data"]
    for side, rates in medians.items():
        ratios = (
            base["memory_mb"] / max(rates["memory_mb"], 0.1),
            base["first_s"] / rates["first_s"],
            rates["per_cpu_s"] / base["per_cpu_s"],
            rates["decoded"] / base["decoded"],
        )
        cells = zip(rates.values(), ratios, strict=True)
        print(f"{side:10}" + "".join(f"{value:9.4g} ({ratio:5.3g}x)" for value, ratio in cells))


if __name__ == "__main__":
    main()
