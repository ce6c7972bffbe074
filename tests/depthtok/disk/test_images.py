"""Image files under many threads: each read gets its own file's bytes, however few stay open."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor

import google_crc32c
import pytest

from depthtok.disk import images
from depthtok.disk.images import ImageFiles
from depthtok.errors import CorruptRecord, SourceUnavailable


@pytest.mark.parametrize("kept", [1, 3, 64])
def test_threads_share_the_open_files(tmp_path, monkeypatch, kept):
    monkeypatch.setattr(images, "OPEN_FILES", kept)
    content = [bytes([number]) * 4096 for number in range(16)]
    for number, data in enumerate(content):
        (tmp_path / f"{number}").write_bytes(data)

    for _ in range(20):  # fresh ones: the first reads of a file are what threads compete for
        files = ImageFiles()

        def read(number, files=files):
            data = content[number % 16]
            crc = google_crc32c.value(data)
            return files.read(tmp_path / f"{number % 16}", 0, len(data), crc) == data

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(read, [i // 4 for i in range(512)]))


def test_changed_bytes_and_missing_files_are_named(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    with pytest.raises(CorruptRecord, match="the 3 bytes at 0 changed"):
        ImageFiles().read(tmp_path / "f", 0, 3, 1)
    with pytest.raises(SourceUnavailable, match="No such file"):
        ImageFiles().read(tmp_path / "g", 0, 3, 1)
    (tmp_path / "folder").mkdir()
    with pytest.raises(SourceUnavailable, match="folder is a directory, not a file"):
        ImageFiles().read(tmp_path / "folder", 0, 3, 1)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_disk_that_fails_is_told(tmp_path, monkeypatch, number):
    def fails(*args):
        raise OSError(number, os.strerror(number))

    (tmp_path / "f").write_bytes(b"abc")
    monkeypatch.setattr(os, "pread", fails)
    files = ImageFiles()
    with pytest.raises(SourceUnavailable, match=os.strerror(number)):
        files.read(tmp_path / "f", 0, 3, 1)
    monkeypatch.undo()
    (tmp_path / "f").rename(tmp_path / "away")  # a stale handle would still read it
    with pytest.raises(SourceUnavailable, match="No such file"):
        files.read(tmp_path / "f", 0, 3, 1)
