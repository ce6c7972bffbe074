import errno
import os
import signal
import socket
import subprocess
import sys
import unicodedata
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depthtok.config import canonical_json
from depthtok.disk import digests, files, temporaries
from depthtok.disk.digests import DigestMemory
from depthtok.disk.files import commit_directory, output_errors, slug
from depthtok.disk.temporaries import sweep, sweep_all
from depthtok.errors import CorruptPart, OutputError, SourceUnavailable
from depthtok.signals import Stopped, stoppable

EVIL = [
    *("", ".", "..", "../x", "a/../../x", "/abs", "abs", "a\\..\\b", "x" * 300, "nul\0byte"),
    *("zarr.json", "manifest.json", "c", "con", "NUL", "aux.txt", "com1", "a.", "a ", " a"),
    *("Image", "image", "IMAGE", "K", "\u212a", "\u212b", "\u00c5", "A\u030a"),
    *("caf\u00e9", "cafe\u0301", "ß", "ss", "SS", "ﬁ", "fi", "\ud800", "\U0001f916"),
    *("-", "~", ".tmp-x", "~root", "$HOME", "a:b", "a*b", "image-0123456789abcdef"),
]


def names(directory) -> list[str]:
    """What lies in a directory."""
    return sorted(path.name for path in directory.iterdir())


def folded(name: str) -> str:
    """What a file system that folds case and Unicode forms makes of a name."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def check_slugs(names: list[str]) -> None:
    slugs = {name: slug(name) for name in names}
    assert len({folded(s) for s in slugs.values()}) == len(slugs)
    for found in slugs.values():
        assert found.isascii()
        assert len(found) <= 61
        assert not set(found) & set('/\\.:*?"<>|\0 ~')
        assert found == found.lower()
        assert found not in ("", "con", "nul", "aux", "prn", "com1")


def test_slugs_of_evil_names_differ_and_stay_inside():
    check_slugs(EVIL)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_categories=()), max_size=9), unique=True, min_size=10)
)
def test_slugs_of_any_names(names):
    check_slugs(names)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=20))
def test_a_slug_is_no_other_names_slug(name):
    twin = slug(name)
    assert twin == name or slug(twin) != twin


def test_plain_names_stay():
    assert [slug(n) for n in ("image", "wrist_image", "cam-0")] == ["image", "wrist_image", "cam-0"]


def test_write_atomic_leaves_the_old_or_the_new(tmp_path, monkeypatch):
    path = tmp_path / "new" / "file"
    files.write_atomic(path, "one")
    monkeypatch.setattr(os, "fsync", raising(errno.ENOSPC))
    with pytest.raises(OutputError, match="No space left") as caught:
        files.write_atomic(path, "two")
    assert "free some space" in caught.value.remedy
    assert path.read_text() == "one"
    assert names(path.parent) == ["file"]


def raising(number):
    def fail(*args):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    "number", ["ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "ENOTDIR", "ENAMETOOLONG"]
)
def test_what_a_file_system_refuses_has_a_remedy(tmp_path, number):
    with pytest.raises(OutputError) as caught, output_errors(tmp_path):
        raising(getattr(errno, number))()
    assert str(tmp_path) in caught.value.problem
    assert caught.value.remedy


def test_other_errors_of_the_system_are_bugs(tmp_path):
    with pytest.raises(OSError, match="Bad file"), output_errors(tmp_path):
        raising(errno.EBADF)()


def test_write_new_is_made_once(tmp_path):
    assert files.write_new(tmp_path / "a", "one")
    assert not files.write_new(tmp_path / "a", "two")
    assert (tmp_path / "a").read_text() == "one"
    assert names(tmp_path) == ["a"]


def test_write_new_without_hard_links(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", raising(errno.EPERM))
    assert files.write_new(tmp_path / "a", "one")
    assert not files.write_new(tmp_path / "a", "two")
    assert (tmp_path / "a").read_text() == "one"
    assert names(tmp_path) == ["a"]


def test_commit_shows_all_or_nothing(tmp_path):
    with commit_directory(tmp_path / "made") as folder:
        (folder / "a").write_text("1")
        assert not (tmp_path / "made").exists()
    with pytest.raises(ZeroDivisionError):
        fill_and(tmp_path / "failed", lambda: 1 / 0)
    assert names(tmp_path) == ["made"]


def fill_and(final, do):
    """Commits a directory, with something in between."""
    with commit_directory(final) as folder:
        (folder / "a").write_text("1")
        do()


def test_a_committed_file_is_whole_or_not_there(tmp_path):
    for name, do in (("made", int), ("failed", lambda: 1 / 0)):
        with suppress(ZeroDivisionError), files.commit_file(tmp_path / "new" / name) as path:
            path.write_text("1")
            do()
    assert names(tmp_path / "new") == ["made"]
    assert not temporaries.has_temporary(tmp_path / "new" / "made")
    with files.commit_file(tmp_path / "new" / "made") as path:
        path.write_text("2")
        assert temporaries.has_temporary(tmp_path / "new" / "made")
        assert (tmp_path / "new" / "made").read_text() == "1"
    assert (tmp_path / "new" / "made").read_text() == "2"


def test_of_two_commits_the_first_stays_unless_replaced(tmp_path):
    for text, replace in (("1", False), ("2", False), ("3", True)):
        with commit_directory(tmp_path / "made", replace=replace) as folder:
            (folder / text).write_text(text)
        assert names(tmp_path / "made") == ["3" if replace else "1"]
    assert names(tmp_path) == ["made"]


def test_replace_of_what_is_not_there(tmp_path):
    with commit_directory(tmp_path / "made", replace=True):
        pass
    assert (tmp_path / "made").is_dir()


def test_a_signal_waits_for_the_commit(tmp_path):
    with pytest.raises(Stopped), stoppable():
        fill_and(tmp_path / "made", lambda: signal.raise_signal(signal.SIGTERM))
    assert names(tmp_path) == []


def test_an_outputs_parents_are_made_and_files_are_in_the_way(tmp_path):
    with commit_directory(tmp_path / "a" / "b" / "c"):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError), commit_directory(tmp_path / "file" / "c"):
        pass


def dead_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def test_sweep_takes_leftovers_of_dead_writers_of_this_host_only(tmp_path):
    mine = temporaries.temporary_sibling(tmp_path / "part").name
    host, process = mine.rsplit("~", 4)[1:3]
    dead = dead_process()
    leftovers = {
        mine: False,
        f".tmp-part~{host}~{dead}~123~ab": True,
        f".tmp-part~{host}~{process}~1~ab": True,  # the number went to another process: us
        f".tmp-part~elsewhere.1~{dead}~123~ab": False,
        f".tmp-part~{socket.gethostname()}.1~{dead}~123~ab": False,  # another container
        f".tmp-part~{host[:-8]}00000000~{dead}~123~ab": False,  # another machine of this name
        ".tmp-unknown": False,
        "part": False,
    }
    for name in leftovers:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("")
    assert sweep(tmp_path) == 2
    assert set(names(tmp_path)) == {name for name, swept in leftovers.items() if not swept}
    assert sweep_all(tmp_path) == 5
    assert names(tmp_path) == ["part"]


def test_machines_of_one_name_are_told_apart(tmp_path, monkeypatch):
    """By their installations; containers, whose images may all have the same, by the kernel's
    start."""
    installation, start = tmp_path / "machine-id", tmp_path / "boot_id"
    monkeypatch.setattr(temporaries, "INSTALLATION", str(installation))
    monkeypatch.setattr(temporaries, "KERNEL_START", str(start))
    space = Path("/proc/self/ns/pid").stat().st_ino

    def marks(installed, started):
        installation.write_text(installed)
        start.write_text(started)
        marks = []
        for first in (space, 0):  # outside of containers, and inside
            monkeypatch.setattr(temporaries, "FIRST_SPACE", first)
            marks.append(temporaries.host_name())
        return marks

    outside, inside = marks("a", "1")
    assert marks("a", "2")[0] == outside
    assert marks("b", "1")[0] != outside
    assert marks("b", "1")[1] == inside
    assert marks("a", "2")[1] != inside
    assert marks("", "1")[0] == inside


def test_temporary_names_differ_and_are_short():
    paths = {temporaries.temporary_sibling(Path("x" * 300)) for _ in range(100)}
    assert len(paths) == 100
    assert max(len(path.name) for path in paths) < 255


def test_remove_is_silent_about_what_is_gone(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    for name in ("folder", "file", "file"):
        files.remove(tmp_path / name)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.EIO, SourceUnavailable),
        (errno.EACCES, SourceUnavailable),
        (errno.ENOENT, CorruptPart),
        (errno.ENOTDIR, CorruptPart),
    ],
)
def test_a_file_that_cannot_be_looked_at_now_is_not_called_missing(
    tmp_path, monkeypatch, number, error
):
    (tmp_path / "a").write_bytes(b"data")
    sha = digests.file_sha256(tmp_path / "a")

    def fails(path, **_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "stat", fails)
    with pytest.raises(error):
        DigestMemory().require(tmp_path / "a", sha, 4)


def test_digests_are_remembered_until_a_file_changes(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"data")
    memory, sha = DigestMemory(), digests.file_sha256(path)
    memory.require(path, sha, 4)
    reads = []
    monkeypatch.setattr(digests, "file_sha256", lambda p: reads.append(p) or "other")
    memory.require(path, sha, 4)
    assert reads == []
    os.utime(path, ns=(1, 1))
    with pytest.raises(CorruptPart, match="other bytes"):
        memory.require(path, sha, 4)
    with pytest.raises(CorruptPart, match="has 4 bytes"):
        memory.require(path, sha, 5)
    path.unlink()
    with pytest.raises(CorruptPart, match="missing"):
        memory.require(path, sha, 4)


def test_canonical_json_refuses_what_has_no_one_text():
    assert canonical_json({"b": 1, "a": [1.5, None]}) == '{"a":[1.5,null],"b":1}'
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))
