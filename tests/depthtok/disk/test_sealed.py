"""Zip files that carry their own digest: sealed, of older versions, changed."""

import numpy as np
import pytest

from depthtok.disk.sealed import require_sound, seal
from depthtok.errors import CorruptPart


@pytest.fixture
def file(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=np.arange(300), y=np.eye(3))
    return tmp_path / "a.npz"


def test_a_sealed_file_is_still_a_zip_file(file):
    before = file.read_bytes()
    assert require_sound(file, "") is False
    seal(file)
    assert require_sound(file, "") is True
    assert np.load(file)["x"].tolist() == list(range(300))
    assert file.read_bytes()[: len(before) - 2] == before[:-2]
    with pytest.raises(AssertionError, match="has a comment"):
        seal(file)


def test_every_bit_counts(file):
    seal(file)
    data = file.read_bytes()
    for at in range(len(data)):
        file.write_bytes(data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :])
        with pytest.raises(CorruptPart, match="was changed") as caught:
            require_sound(file, "delete it")
        assert caught.value.remedy == "delete it"


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-1],
        lambda data: data[:-64],
        lambda data: data + b"x",
        lambda data: b"",
        lambda data: data[:-64] + b"0" * 64,
        lambda data: data[:40],
        lambda data: data[1:],
    ],
)
def test_cut_and_grown_files_are_refused(file, change):
    seal(file)
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(CorruptPart):
        require_sound(file, "")


def test_what_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(CorruptPart, match="cannot be read"):
        require_sound(tmp_path, "")
