"""Two hosts fill one store, and are killed: a short round of the benchmark. Needs root."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


def may_make_hosts():
    spec = importlib.util.spec_from_file_location("hosts", FOLDER / "hosts.py")
    hosts = sys.modules["hosts"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hosts)
    return hosts.possible()


@pytest.mark.skipif(not may_make_hosts(), reason="only root may make hosts, with iproute2")
def test_two_hosts_that_are_killed_fill_one_store():
    words = [
        sys.executable,
        FOLDER / "two_hosts.py",
        "--rounds",
        "2",
        "--kills",
        "1",
        "--seed",
        "3",
    ]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(": 0 differ\n")
    assert "killed" in done.stdout or "crashed" in done.stdout
