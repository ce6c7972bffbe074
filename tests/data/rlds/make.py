"""Makes the committed sample and its golden file; needs TensorFlow and the whole data set.

    python tests/data/rlds/make.py OXE_DEPTH_ENCODINGS_DIRECTORY

The sample is the first steps of two simulated episodes: the bytes of every frame are those of the
data set, only cut down in number. The golden file is what tensorflow-datasets decodes from it.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np

from depthtok.sources.example import BYTES, FLOATS, encode_example
from depthtok.sources.rlds import RldsDirectory
from depthtok.sources.tfrecord import OVERHEAD, frame

STEPS, EPISODES = 2, 2


def cut(source: Path, target: Path) -> None:
    """Write the first steps of the first episodes as a data set of one shard an episode."""
    rlds = RldsDirectory.open(source)
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(rlds.path / "features.json", target)
    lengths, sizes = [], []
    for episode in rlds.records(rlds.splits["train"].shards[0]):
        if len(lengths) == EPISODES:
            break
        columns = {}
        for path, column in episode._columns.items():
            values = {BYTES: column.items, FLOATS: column.floats}.get(column.kind, column.ints)()
            per_step = len(values) // len(episode)
            columns[path] = values[: per_step * STEPS] if path.startswith("steps/") else values
        data = encode_example(columns)
        name = f"{rlds.name}-train.tfrecord-{len(lengths):05d}-of-{EPISODES:05d}"
        (target / name).write_bytes(frame(data))
        lengths.append("1")
        sizes.append(len(frame(data)) - OVERHEAD)
    info = json.loads((rlds.path / "dataset_info.json").read_text())
    info["splits"][0] |= {"shardLengths": lengths, "numBytes": str(sum(sizes))}
    (target / "dataset_info.json").write_text(json.dumps(info, indent=2) + "\n")


def golden(directory: Path, file: Path) -> None:
    """Write what tensorflow-datasets gives, named `<episode>/<feature>`."""
    import tensorflow_datasets as tfds

    values = {}
    builder = tfds.builder_from_directory(str(directory))
    for number, episode in enumerate(tfds.as_numpy(builder.as_dataset("train"))):
        steps = list(episode["steps"])
        for path in RldsDirectory.open(directory).features:
            kind, *names = path.split("/")
            parts = steps if kind == "steps" else [episode[kind]]
            for name in names:
                parts = [part[name] for part in parts]
            value = np.array(parts) if kind == "steps" else np.array(parts[0])
            values[f"{number}/{path}"] = value
    np.savez_compressed(file, **values)


if __name__ == "__main__":
    here = Path(__file__).parent / "oxe_depth_encodings"
    cut(Path(sys.argv[1]), here / "1.0.0")
    golden(here / "1.0.0", here / "golden.npz")
