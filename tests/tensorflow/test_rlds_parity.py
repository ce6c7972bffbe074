"""The reader and the writer against tensorflow-datasets, bit by bit, images included."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from depthtok.sources.features import Feature
from depthtok.sources.pixels import PixelFormat
from depthtok.sources.rlds import RldsDirectory
from depthtok.sources.write import RldsWriter

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # raised while TensorFlow imports itself
    warnings.simplefilter("ignore", FutureWarning)
    tf = pytest.importorskip("tensorflow")
    tfds = pytest.importorskip("tensorflow_datasets")

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

SAMPLE = Path(__file__).parents[1] / "data/rlds/oxe_depth_encodings/1.0.0"
COLLECTED = Path(__file__).parents[2] / "depthtok/sample/libero_sample/1.0.0"
LENGTHS = (5, 1, 12, 3, 7)
INTEGERS = ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"]
FLOATS = ["float16", "float32", "float64"]
TENSORS = [  # tensorflow-datasets writes uint32 as bytes, but cannot decode that
    (dtype, encoding)
    for dtype in [*INTEGERS, *FLOATS, "bool"]
    for encoding in ("none", "bytes", "zlib")
    if dtype != "uint32" or encoding == "none"
]


def _features():
    fd = tfds.features
    tensors = {
        f"{dtype}_{encoding}": fd.Tensor(shape=(2, 3), dtype=np.dtype(dtype), encoding=encoding)
        for dtype, encoding in TENSORS
    }
    scalars = {dtype: fd.Scalar(dtype=np.dtype(dtype)) for dtype in [*INTEGERS, *FLOATS, "bool"]}
    return fd.FeaturesDict(
        {
            "steps": fd.Dataset(
                {
                    "observation": {
                        "tensors": tensors,
                        "deeper": {"scalars": scalars},
                        "bfloat16_bytes": fd.Tensor(
                            shape=(3,), dtype=tf.bfloat16, encoding="bytes"
                        ),
                        "jpeg": fd.Image(shape=(17, 23, 3), encoding_format="jpeg"),
                        "jpeg_grey": fd.Image(shape=(17, 23, 1), encoding_format="jpeg"),
                        "jpeg_any": fd.Image(shape=(None, None, 3), encoding_format="jpeg"),
                        "png_1": fd.Image(shape=(9, 8, 1), encoding_format="png"),
                        "png_3": fd.Image(shape=(9, 8, 3)),
                        "png_4": fd.Image(shape=(9, 8, 4), encoding_format="png"),
                        "png_u16": fd.Image(
                            shape=(9, 8, 1), dtype=np.uint16, encoding_format="png"
                        ),
                        "png_f32": fd.Image(
                            shape=(9, 8, 1), dtype=np.float32, encoding_format="png"
                        ),
                        "open_raw": fd.Tensor(shape=(None, 4), dtype=np.float32, encoding="zlib"),
                        "open_list": fd.Tensor(shape=(2, 2), dtype=np.float32),
                        "dynamic": fd.Tensor(shape=(None, None), dtype=np.uint16, encoding="bytes"),
                        "points": fd.Sequence(fd.Tensor(shape=(2,), dtype=np.int32)),
                        "label": fd.ClassLabel(num_classes=4),
                        "string": fd.Tensor(shape=(), dtype=np.str_),
                    },
                    "language_instruction": fd.Text(),
                    "is_first": np.bool_,
                    "reward": np.float32,
                }
            ),
            "episode_metadata": {
                "file_path": fd.Text(),
                "number": np.int64,
                "matrix": fd.Tensor(shape=(3, 3), dtype=np.float64),
                "packed": fd.Tensor(shape=(2, 2), dtype=np.uint16, encoding="zlib"),
                "camera": fd.Image(shape=(4, 5, 3), encoding_format="png"),
                "waypoints": fd.Sequence(np.float32),
            },
        }
    )


def _tensor(rng, dtype: str, shape):
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype in FLOATS:
        return rng.normal(0, 100, shape).astype(dtype)
    limits = np.iinfo(dtype)
    values = rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    values.flat[0] = limits.min if rng.random() < 0.5 else limits.max
    return values


def _smooth(rng, height: int, width: int, channels: int):
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows * rng.random() + columns * rng.random()) for _ in range(channels)]
    return (127 + 120 * np.stack(waves, -1)).astype(np.uint8)


def _step(rng, step: int):
    dtypes = [*INTEGERS, *FLOATS, "bool"]
    observation = {
        "tensors": {
            f"{dtype}_{encoding}": _tensor(rng, dtype, (2, 3)) for dtype, encoding in TENSORS
        },
        "deeper": {"scalars": {dtype: _tensor(rng, dtype, (1,))[0] for dtype in dtypes}},
        "bfloat16_bytes": rng.normal(size=3).astype(tf.bfloat16.as_numpy_dtype),
        "jpeg": _smooth(rng, 17, 23, 3),
        "jpeg_grey": _smooth(rng, 17, 23, 1),
        "jpeg_any": _smooth(rng, 33, 21, 3),
        "png_1": _tensor(rng, "uint8", (9, 8, 1)),
        "png_3": _tensor(rng, "uint8", (9, 8, 3)),
        "png_4": _tensor(rng, "uint8", (9, 8, 4)),
        "png_u16": _tensor(rng, "uint16", (9, 8, 1)),
        "png_f32": rng.normal(size=(9, 8, 1)).astype(np.float32),
        "open_raw": rng.random((5, 4), np.float32),
        "open_list": rng.random((2, 2), np.float32),
        "dynamic": _tensor(rng, "uint16", (3, 4)),
        "points": rng.integers(-9, 9, (3, 2)).astype(np.int32),
        "label": int(rng.integers(4)),
        "string": f"chaîne {step}",
    }
    return {
        "observation": observation,
        "language_instruction": f"öffne die 抽屉 {step} 🤖",
        "is_first": step == 0,
        "reward": np.float32(step),
    }


def _episode(number: int, length: int):
    rng = np.random.default_rng(number)
    metadata = {
        "file_path": f"épisode/{number}",
        "number": -(10**12) * number,
        "matrix": rng.normal(size=(3, 3)),
        "packed": _tensor(rng, "uint16", (2, 2)),
        "camera": _tensor(rng, "uint8", (4, 5, 3)),
        "waypoints": rng.random(number, np.float32),
    }
    return {"steps": [_step(rng, step) for step in range(length)], "episode_metadata": metadata}


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """A data set in all encodings, written by tensorflow-datasets in several shards."""
    root = tmp_path_factory.mktemp("tfds")

    class EveryEncoding(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("2.0.0")
        pkg_dir_path = root  # a test file lies in no package

        def _info(self):
            return self.dataset_info_from_configs(features=_features())

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(0), "val": self._generate_examples(100)}

        def _generate_examples(self, start):
            for number, length in enumerate(LENGTHS):
                yield number, _episode(start + number, length)

    builder = EveryEncoding(data_dir=str(root))
    config = tfds.download.DownloadConfig(num_shards=3)
    builder.download_and_prepare(download_config=config)
    return Path(builder.data_dir)


def _expected(directory: Path, split: str):
    """Episodes by tensorflow-datasets, in file order: {path: array}."""
    builder = tfds.builder_from_directory(str(directory))
    reading = tfds.ReadConfig(interleave_cycle_length=1)
    for episode in tfds.as_numpy(builder.as_dataset(split, read_config=reading)):
        steps = list(episode["steps"])
        flat = {f"episode_metadata/{k}": v for k, v in episode["episode_metadata"].items()}
        flat |= {path: [_at(step, path) for step in steps] for path in _paths(steps[0], "steps")}
        yield flat


def _paths(tree, prefix: str):
    if not isinstance(tree, dict):
        return [prefix]
    return [path for key in tree for path in _paths(tree[key], f"{prefix}/{key}")]


def _at(step, path: str):
    for key in path.split("/")[1:]:
        step = step[key]
    return step


def _assert_equal(episode, path: str, want) -> None:
    feature = episode.features[path]
    if feature.kind == "text":
        want = [item.decode() for item in want] if feature.per_step else want.decode()
        assert episode.text(path) == want
        return
    want, have = np.asarray(want), episode.values(path)
    if feature.dtype == "bfloat16":
        want = want.astype(np.float32)
    assert have.dtype == want.dtype, path
    assert have.shape == want.shape, path
    assert have.tobytes() == want.tobytes(), path


def _assert_frames(episode, path: str) -> None:
    """Every frame by one read at its span equals `values`."""
    layout = PixelFormat.of(episode.features[path])
    spans, values = episode.spans(path), episode.values(path)
    with episode.shard.open("rb") as file:
        for step in range(len(episode)):
            file.seek(int(spans.offset[step]))
            frame = layout.decode(file.read(int(spans.length[step])))
            assert np.array_equal(frame.reshape(values[step].shape), values[step]), path


@pytest.mark.parametrize("split", ["train", "val"])
def test_every_encoding_is_read_as_tensorflow_datasets_reads_it(written, split):
    data = RldsDirectory.open(written)
    shards = data.splits[split].shards
    assert len(shards) > 1
    episodes = [episode for shard in shards for episode in data.records(shard)]
    expected = list(_expected(written, split))
    assert len(episodes) == len(expected) == len(LENGTHS)
    for episode, want in zip(episodes, expected, strict=True):
        assert set(want) == set(data.features)
        for path in want:
            _assert_equal(episode, path, want[path])


def test_every_frame_is_found_by_its_span(written):
    data = RldsDirectory.open(written)
    closed = [
        path
        for path, feature in data.features.items()
        if feature.per_step
        and feature.kind in ("image", "tensor")
        and len(feature.shape) in (2, 3)
        and feature.shape.count(None) != 2
        and "points" not in path
    ]
    assert len(closed) > 35
    for episode in data.records(data.splits["train"].shards[0]):
        for path in closed:
            _assert_frames(episode, path)


@pytest.mark.parametrize("sample", [SAMPLE, COLLECTED], ids=["encodings", "collected"])
def test_the_committed_samples_are_read_alike(sample):
    """Depth, masks and cameras too: what holds of them in our reader holds in tensorflow's."""
    data = RldsDirectory.open(sample)
    episodes = [e for shard in data.splits["train"].shards for e in data.records(shard)]
    for episode, want in zip(episodes, _expected(sample, "train"), strict=True):
        for path in want:
            _assert_equal(episode, path, want[path])


@pytest.mark.parametrize("quality", [30, 95, 100])
@pytest.mark.parametrize("sampling", ["444", "422", "420", "440", "411"])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_of_any_subsampling_and_quality(quality, sampling, channels):
    import simplejpeg

    rng = np.random.default_rng(quality)
    image = np.clip(
        _smooth(rng, 61, 75, 3).astype(int) + rng.integers(-20, 20, (61, 75, 3)), 0, 255
    )
    data = simplejpeg.encode_jpeg(image.astype(np.uint8), quality, "RGB", sampling)
    want = tf.image.decode_image(data, channels=channels).numpy()
    have = PixelFormat("jpeg", "uint8", (61, 75, channels)).decode(data)
    assert np.array_equal(have, want)


@pytest.mark.parametrize(
    ("mode", "channels"),
    [
        *[(mode, 1) for mode in ("1", "L", "LA")],  # colour is not made grey: see test_pixels
        *[(mode, 3) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")],
        *[(mode, 4) for mode in ("L", "LA", "P", "RGB", "RGBA")],  # no alpha beside one bit
    ],
)
def test_png_of_another_kind_than_declared(mode, channels):
    import io

    from PIL import Image

    rng = np.random.default_rng(1)
    picture = Image.fromarray(_tensor(rng, "uint8", (9, 8, 4))).convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, "png")
    want = tf.image.decode_image(buffer.getvalue(), channels=channels).numpy()
    have = PixelFormat("png", "uint8", (9, 8, channels)).decode(buffer.getvalue())
    assert np.array_equal(have, want)


def test_tensorflow_datasets_opens_what_is_written(tmp_path):
    about = [
        ("steps/is_first", "scalar", "bool", (), "none"),
        ("steps/action", "tensor", "float32", (7,), "none"),
        ("steps/double", "tensor", "float64", (2,), "zlib"),
        ("steps/language_instruction", "text", "str", (), ""),
        ("steps/observation/jpeg", "image", "uint8", (16, 24, 3), "jpeg"),
        ("steps/observation/rgb", "image", "uint8", (16, 24, 3), "png"),
        ("steps/observation/depth_mm", "image", "uint16", (16, 24, 1), "png"),
        ("steps/observation/depth_m", "image", "float32", (16, 24, 1), "png"),
        ("steps/observation/depth_list", "tensor", "int32", (4, 5), "none"),
        ("steps/observation/depth_zlib", "tensor", "uint16", (4, 5), "zlib"),
        ("episode_metadata/file_path", "text", "str", (), ""),
        ("episode_metadata/seed", "scalar", "int64", (), "none"),
    ]
    features = {
        path: Feature(path, kind, dtype, shape, encoding, path.startswith("steps/"))
        for path, kind, dtype, shape, encoding in about
    }
    episodes = [_episode_for(features, number, length) for number, length in enumerate(LENGTHS)]
    writer = RldsWriter(tmp_path / "written/1.2.3", "written", "1.2.3", features, "A test.")
    assert [s.episodes for s in writer.write("train", iter(episodes), 2)] == [2, 2, 1]
    writer.finish()

    builder = tfds.builder_from_directory(str(writer.path))
    assert builder.info.splits["train"].shard_lengths == [2, 2, 1]
    assert builder.info.full_name == "written/1.2.3"
    data = RldsDirectory.open(writer.path)
    read = [e for shard in data.splits["train"].shards for e in data.records(shard)]
    for have, want, written in zip(read, _expected(writer.path, "train"), episodes, strict=True):
        assert set(want) == set(features)
        for path, feature in features.items():
            _assert_equal(have, path, want[path])
            if feature.kind != "text" and feature.encoding != "jpeg":
                assert np.array_equal(have.values(path), written[path]), path


def _episode_for(features, number: int, length: int):
    rng = np.random.default_rng(number)
    values = {}
    for path, feature in features.items():
        count = (length,) if feature.per_step else ()
        if feature.kind == "text":
            values[path] = ["öffne 抽屉"] * length if feature.per_step else f"episode {number}"
        elif feature.encoding == "jpeg":
            values[path] = np.stack([_smooth(rng, 16, 24, 3) for _ in range(length)])
        else:
            values[path] = _tensor(rng, feature.dtype, (*count, *feature.shape))
    values["episode_metadata/seed"] = -number
    return values


def test_lists_of_texts_are_written_as_tensorflow_datasets_reads_them(tmp_path):
    features = {
        feature.path: feature
        for feature in (
            Feature("steps/is_first", "scalar", "bool", (), "none"),
            Feature("steps/several", "text", "str", (None,)),
            Feature("steps/pair", "text", "str", (2,)),
            Feature("notes", "text", "str", (None,), "", per_step=False),
        )
    }
    episode = {
        "steps/is_first": [True, False, False],
        "steps/several": [["a"], [], ["b", "ç"]],
        "steps/pair": [["p", "q"]] * 3,
        "notes": ["n", "m"],
    }
    writer = RldsWriter(tmp_path / "words/1.0.0", "words", "1.0.0", features)
    writer.write("train", iter([episode]), 1)
    builder = tfds.builder_from_directory(str(writer.finish()))
    (read,) = tfds.as_numpy(builder.as_dataset("train"))
    steps = list(read["steps"])
    assert [text.decode() for text in read["notes"]] == ["n", "m"]
    for name in ("several", "pair"):
        found = [[text.decode() for text in step[name]] for step in steps]
        assert found == episode[f"steps/{name}"]
        shard = RldsDirectory.open(writer.path).splits["train"].shards[0]
        (raw,) = RldsDirectory.open(writer.path).records(shard)
        assert [list(texts) for texts in raw.texts(f"steps/{name}")] == found
