from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from depthtok.errors import CorruptPart, WeightsError
from depthtok.stores.codebook import META, WEIGHTS, Codebook, write, write_meta

VECTORS = np.arange(12, dtype=np.float32).reshape(4, 3)


def description(**changes) -> dict:
    return {
        "network": {"size": 256, "grid": 16, "dim": 3},
        "quantizer": {"kind": "ema"},
        "normalisation": {"name": "clip_quantile"},
        "codes": 4,
        "quality": {"frames": 7, "kind": "metres"},
        "demo": True,
        **changes,
    }


@pytest.fixture
def book(tmp_path):
    return write(tmp_path / "cb", {"vectors": VECTORS}, description())


def test_what_is_written_is_read(book):
    loaded = Codebook.load(book)
    assert np.array_equal(loaded.vectors, VECTORS)
    assert not loaded.vectors.flags.writeable
    assert loaded.grid == (16, 16)
    assert loaded.size == (256, 256)
    assert loaded.demo
    assert loaded.quality == {"frames": 7, "kind": "metres"}
    assert loaded.normalisation.name == "clip_quantile"


def test_scalars_and_transposed_weights_survive(tmp_path):
    weights = {"vectors": VECTORS, "turned": np.asfortranarray(VECTORS), "flag": np.array(True)}
    path = write(tmp_path / "cb", weights, description())
    tensors = load_file(path / WEIGHTS)
    assert tensors["flag"].shape == ()
    assert np.array_equal(tensors["turned"], VECTORS)


def test_the_fingerprint_is_of_content(tmp_path, book):
    same = write(tmp_path / "elsewhere", {"vectors": VECTORS}, description(quality={}))
    assert Codebook.load(same).fingerprint == Codebook.load(book).fingerprint
    others = [
        write(tmp_path / "a", {"vectors": VECTORS + 1}, description()),
        write(
            tmp_path / "b", {"vectors": VECTORS}, description(normalisation={"name": "per_frame"})
        ),
        write(tmp_path / "c", {"vectors": VECTORS, "encoder": VECTORS}, description()),
    ]
    prints = {Codebook.load(path).fingerprint for path in [book, *others]}
    assert len(prints) == 4


def test_every_flipped_byte_of_the_weights_is_noticed(book):
    data = bytearray((book / WEIGHTS).read_bytes())
    for position in (0, len(data) // 2, len(data) - 1):
        changed = data.copy()
        changed[position] ^= 1
        (book / WEIGHTS).write_bytes(changed)
        with pytest.raises(CorruptPart):
            Codebook.load(book)


@pytest.mark.parametrize(
    "change",
    [
        lambda meta: meta["quality"].update(frames=8),
        lambda meta: meta.update(demo=False),
        lambda meta: meta["normalisation"].update(name="per_frame"),
        lambda meta: meta.pop("digest"),
        lambda meta: meta.pop("codes"),
    ],
)
def test_edits_by_hand_are_noticed(book, change):
    meta = json.loads((book / META).read_text())
    change(meta)
    (book / META).write_text(json.dumps(meta))
    with pytest.raises(CorruptPart):
        Codebook.load(book)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"digest"'])
def test_what_is_not_a_description_is_refused(book, text):
    (book / META).write_text(text)
    with pytest.raises(CorruptPart):
        Codebook.load(book)


def test_an_unfinished_or_foreign_directory_is_no_codebook(tmp_path, book):
    with pytest.raises(WeightsError, match="not a codebook"):
        Codebook.load(tmp_path)
    (book / META).unlink()
    with pytest.raises(WeightsError, match="not a codebook"):
        Codebook.load(book)


def test_vectors_must_have_the_shape_that_is_described(tmp_path):
    for vectors in (VECTORS[:3], VECTORS.astype(np.float64)):
        path = write(tmp_path / "cb", {"vectors": vectors}, description())
        with pytest.raises(WeightsError, match="vectors are"):
            Codebook.load(path)
    path = write(tmp_path / "cb", {"codes": VECTORS}, description())
    with pytest.raises(WeightsError, match="no code vectors"):
        Codebook.load(path)


def test_a_newer_format_is_refused(book):
    meta = json.loads((book / META).read_text())
    write_meta(book, {**meta, "format": 99, "network": {"sides": [256, 192]}})
    with pytest.raises(WeightsError, match="format 99"):
        Codebook.load(book)


def test_reading_needs_no_torch():
    code = "import sys, depthtok.stores.codebook; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
