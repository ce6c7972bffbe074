"""Episodes whose records are sound, but hold what their features do not say."""

import contextlib
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from depthtok.errors import CorruptRecord, SourceError
from depthtok.sources.episode import RawEpisode
from depthtok.sources.example import encode_example
from depthtok.sources.features import Feature

ENCODINGS = ["none", "bytes", "zlib"]
DTYPES = ["bool", "uint8", "uint64", "int32", "float16", "float32", "float64", "bfloat16"]


def _raw(columns: dict, *features: Feature) -> RawEpisode:
    return RawEpisode(Path("shard"), 4, 99, encode_example(columns), {f.path: f for f in features})


sizes = st.lists(st.one_of(st.none(), st.integers(0, 4)), max_size=4).map(tuple)
features = st.one_of(
    st.builds(
        Feature,
        path=st.just("steps/x"),
        kind=st.sampled_from(["tensor", "scalar", "class_label"]),
        dtype=st.sampled_from(DTYPES),
        shape=sizes,
        encoding=st.sampled_from(ENCODINGS),
        per_step=st.booleans(),
    ),
    st.builds(
        Feature,
        path=st.just("steps/x"),
        kind=st.just("image"),
        dtype=st.sampled_from(["uint8", "uint16", "float32", "int8"]),
        shape=st.tuples(*[st.one_of(st.none(), st.integers(0, 4))] * 2, st.integers(0, 5)),
        encoding=st.sampled_from(["jpeg", "png", ""]),
        per_step=st.booleans(),
    ),
    st.builds(Feature, path=st.just("steps/x"), kind=st.just("text"), dtype=st.just("str")),
    st.builds(Feature, path=st.just("steps/x"), kind=st.just("other"), dtype=st.just("")),
)
blob = st.one_of(st.binary(max_size=40), st.binary(max_size=40).map(zlib.compress))
column = st.one_of(
    hnp.arrays(np.float32, st.integers(0, 20)),
    hnp.arrays(np.int64, st.integers(0, 20)),
    st.lists(st.integers(-2, 4), max_size=8).map(lambda values: np.array(values, np.int64)),
    st.lists(blob, max_size=4),
)
names = ["", "/value", "/shape", "/ragged_flat_values", "/ragged_row_lengths_0"]


@settings(max_examples=800, deadline=None)
@given(features, st.dictionaries(st.sampled_from(names), column, max_size=3), st.booleans())
def test_nothing_but_source_errors(feature, columns, counted):
    data = {f"steps/x{name}": values for name, values in columns.items()}
    flag = Feature("steps/is_first", "scalar", "bool", (), "none")
    if counted:
        data["steps/is_first"] = np.ones(2, np.int64)
    episode = _raw(data, feature, flag) if counted else _raw(data, feature)
    for method in (
        episode.values,
        episode.text,
        episode.spans,
        episode.items,
        lambda _: len(episode),
    ):
        with contextlib.suppress(SourceError):
            method("steps/x")


def test_ragged_sequences():
    feature = Feature("steps/x", "tensor", "int32", (None, 2), "none")
    values = np.arange(12)
    names = ("steps/x/ragged_flat_values", "steps/x/ragged_row_lengths_0")
    flag = Feature("steps/is_first", "scalar", "bool", (), "none")
    first = {"steps/is_first": np.array([1, 0])}

    even = _raw(first | dict(zip(names, (values, np.array([3, 3])), strict=True)), feature, flag)
    assert np.array_equal(even.values("steps/x"), values.reshape(2, 3, 2))
    uneven = _raw(first | dict(zip(names, (values, np.array([2, 4])), strict=True)), feature, flag)
    with pytest.raises(SourceError, match="has 2 to 4 entries"):
        uneven.values("steps/x")
    with pytest.raises(SourceError, match="may change shape"):
        even.spans("steps/x")


def test_shapes_that_the_record_states():
    feature = Feature("steps/x", "tensor", "uint16", (None, None), "bytes")
    data = [np.arange(6, dtype=np.uint16).tobytes()] * 2
    flag = Feature("steps/is_first", "scalar", "bool", (), "none")
    columns = {"steps/is_first": np.array([1, 0]), "steps/x/value": data}

    def episode(*shape):
        return _raw(columns | {"steps/x/shape": np.array(shape)}, feature, flag)

    want = np.arange(6).reshape(2, 3)
    assert np.array_equal(episode(2, 3, 2, 3).values("steps/x"), [want, want])
    with pytest.raises(SourceError, match="changes shape at step 1"):
        episode(2, 3, 3, 2).values("steps/x")
    for shape in ((2, 3), (-2, -3, 2, 3), (1 << 40, 1 << 40, 2, 3), (2, 3, 2), (2, 4, 2, 4)):
        with pytest.raises(CorruptRecord, match="shard: record 4 at byte 99"):
            episode(*shape).values("steps/x")


def test_texts_that_are_not_utf8():
    feature = Feature("steps/x", "text", "str")
    assert _raw({"steps/x": [b"caf\xe9", b"ok"]}, feature).text("steps/x") == ["caf\ufffd", "ok"]


def test_counts_that_differ():
    flag = Feature("steps/is_first", "scalar", "bool", (), "none")
    text, image = Feature("steps/t", "text", "str"), Feature("steps/i", "image", "uint8", (1, 1, 3))
    columns = {"steps/is_first": np.ones(3, np.int64), "steps/t": [b"x"], "steps/i": [b"x"] * 4}
    episode = _raw(columns, flag, text, image)
    for method, path in (
        (episode.text, "steps/t"),
        (episode.items, "steps/i"),
        (episode.spans, "steps/i"),
        (episode.values, "steps/i"),
    ):
        with pytest.raises(CorruptRecord, match="instead of 3"):
            method(path)
