"""One writer of a run: refused, released, killed, forked, on other hosts and without locks."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from depthtok.disk import locks
from depthtok.disk.locks import LOCK, writing, writing_shard
from depthtok.errors import InUse, OutputError

HOLD = """
import os, sys, time
from pathlib import Path
from depthtok.disk.locks import writing, writing_shard
out, how = Path(sys.argv[1]), sys.argv[2]
with writing(out, file=how == "file") if how in ("", "file") else writing_shard(out, how):
    if sys.argv[3:] == ["fork"] and os.fork() == 0:
        os.close(1)
        time.sleep(30)
        os._exit(0)
    print("held", flush=True)
    time.sleep(30)
"""


@pytest.fixture
def holder(monkeypatch):
    """Starts processes that hold a lock; the ones refused do not wait long."""
    monkeypatch.setattr(locks, "PATIENCE_S", 0.2)
    started = []

    def start(out, how="", *more):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(out), how, *more],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout.readline() == b"held\n"
        return process

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def test_the_second_writer_is_refused_and_told_who_writes(tmp_path, holder):
    run = tmp_path / "new" / "run"
    process = holder(run)
    with (
        pytest.raises(
            InUse, match=f"{run} is being written by process {process.pid} on "
        ) as caught,
        writing(run),
    ):
        pytest.fail("two writers")
    assert isinstance(caught.value, OutputError)
    assert "another --out" in caught.value.remedy
    with writing(tmp_path / "new"), writing(tmp_path / "new" / "other"):
        pass  # other directories are free


@pytest.mark.parametrize("how", ["", "fork"])
def test_kill_and_rerun_at_once(tmp_path, holder, monkeypatch, how):
    """Even where a child that was forked lives on."""
    process = holder(tmp_path, "", *([how] if how else []))
    monkeypatch.setattr(locks, "PATIENCE_S", 3.0)
    process.kill()
    with writing(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()


def test_the_end_of_a_writer_leaves_an_empty_file_of_the_usual_mode(tmp_path):
    with pytest.raises(KeyError), writing(tmp_path):
        raise KeyError
    assert (tmp_path / LOCK).read_bytes() == b""
    (tmp_path / "plain").touch()
    assert (tmp_path / LOCK).stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_process_takes_its_lock_again(tmp_path, holder):
    with writing(tmp_path):
        with writing(tmp_path):
            pass
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
        done = subprocess.run(
            [sys.executable, "-c", HOLD, str(tmp_path), ""], capture_output=True, text=True
        )
        assert "InUse" in done.stderr
    holder(tmp_path)


def test_an_output_that_is_a_file(tmp_path, holder):
    holder(tmp_path / "w.safetensors", "file")
    with pytest.raises(InUse), writing(tmp_path / "w.safetensors", file=True):
        pytest.fail("two writers")
    with writing(tmp_path / "other.safetensors", file=True):
        assert not (tmp_path / "w.safetensors").exists()


def test_shards_of_one_output(tmp_path, holder):
    first = holder(tmp_path, "1/3")
    second = holder(tmp_path, "2/3")
    for shard in ("2/3", None):
        with pytest.raises(InUse), writing_shard(tmp_path, shard):
            pytest.fail("two writers")
    with writing_shard(tmp_path, "3/3"):
        pass
    for process in (first, second):
        process.kill()
        process.wait()
    with writing_shard(tmp_path, None):
        done = subprocess.run(
            [sys.executable, "-c", HOLD, str(tmp_path), "1/3"], capture_output=True, text=True
        )
        assert "InUse" in done.stderr


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, capsys, code):
    def flock(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    with writing(tmp_path):
        assert f"{tmp_path}: this file system has no locks" in capsys.readouterr().err


def test_a_job_of_another_host_that_did_not_end_by_itself_is_said(tmp_path, capsys):
    (tmp_path / LOCK).write_text(json.dumps({"host": "node7.42", "pid": 5}))
    with writing(tmp_path):
        assert "a job on node7.42 wrote there" in capsys.readouterr().err
    with writing(tmp_path):
        assert not capsys.readouterr().err


@pytest.mark.parametrize("text", ["[]", "{", "\0\xff", '{"host": []}', "5"])
def test_the_text_is_only_for_the_message(tmp_path, text):
    (tmp_path / LOCK).write_text(text)
    started = time.monotonic()
    with writing(tmp_path):
        pass
    assert time.monotonic() - started < 1


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    below = tmp_path / "file" / "run"
    with pytest.raises(OutputError, match=r"cannot write .*/file/run"), writing(below):
        pytest.fail("a file is no directory")


def test_what_is_refused_leaves_no_directory(tmp_path):
    """A lock alone is no output; what was there before, or was written meanwhile, stays."""
    (tmp_path / "there").mkdir()
    for name in ("new", "there", "written"):
        with suppress(ValueError), writing(tmp_path / name):
            if name == "written":
                (tmp_path / name / "config.json").write_text("{}")
            raise ValueError("refused")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there", "written"]
    assert (tmp_path / "written" / "config.json").is_file()
