"""`make interop`: the Python that it needs, what is left out, and that CI runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "interop"))
import environments  # noqa: E402
import run  # noqa: E402


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_name_on_the_path_that_starts_nothing_is_passed_over(tmp_path, monkeypatch):
    """pyenv has a `python3.12` that fails unless that version was chosen."""
    executable(tmp_path / "shims/python3.12", "echo 'pyenv: command not found' >&2; exit 127")
    executable(tmp_path / "pyenv/versions/3.11.7/bin/python", "echo 3 11")
    suitable = executable(tmp_path / "pyenv/versions/3.12.1/bin/python", "echo 3 12")
    monkeypatch.setenv("PATH", str(tmp_path / "shims"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("INTEROP_PYTHON", raising=False)
    assert environments.find_python() == suitable
    other = executable(tmp_path / "other", "echo 3 12")
    monkeypatch.setenv("INTEROP_PYTHON", str(other))
    assert environments.find_python() == other


def test_lerobot_is_left_out_unless_it_is_named_or_asked_for(monkeypatch):
    (lerobot,) = (e for e in environments.ENVIRONMENTS if e.named_by)
    monkeypatch.delenv(lerobot.named_by, raising=False)
    assert run.is_left_out(lerobot, [])
    assert not run.is_left_out(lerobot, list(lerobot.checks))
    assert not run.is_left_out(lerobot, [*lerobot.checks, "xarray_reads"])
    assert not any(run.is_left_out(e, []) for e in environments.ENVIRONMENTS if e != lerobot)
    monkeypatch.setenv(lerobot.named_by, sys.executable)
    assert not run.is_left_out(lerobot, [])
    assert environments.make(lerobot, Path("none")) == Path(sys.executable)


def test_a_check_that_fails_or_hangs_has_failed(monkeypatch, capfd):
    assert run.outcome([sys.executable, "-c", "pass"]) == "ok"
    assert run.outcome([sys.executable, "-c", "raise SystemExit(3)"]) == "FAILED"
    monkeypatch.setattr(run, "LONGEST_S", 0.5)
    assert run.outcome([sys.executable, "-c", "import time; time.sleep(60)"]) == "FAILED"
    assert "did not end in 0.5 s" in capfd.readouterr().out


def test_ci_runs_it_with_a_python_that_must_be_there():
    lines = (ROOT / ".ci/run").read_text().splitlines()
    assert lines.index("make interop REQUIRED=--required") > lines.index("make check")
    assert "$(BIN)/python interop/run.py $(REQUIRED)" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize(("flags", "code"), [((), 0), (("--required",), 1)])
def test_no_python_is_said_aloud_and_is_an_error_where_it_is_required(flags, code):
    command = [sys.executable, ROOT / "interop" / "run.py", *flags]
    environ = {**os.environ, "INTEROP_PYTHON": "/bin/false"}
    done = subprocess.run(command, capture_output=True, text=True, env=environ)
    assert done.returncode == code, done.stderr
    assert "\nskipped: no Python 3.12\n" in done.stdout


def test_a_check_that_is_not_there_is_refused():
    command = [sys.executable, ROOT / "interop" / "run.py", "xaray_reads"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "there is no xaray_reads; there are zarr_reads, xarray_reads" in done.stderr
