"""`make interop` without the Python that it needs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


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
