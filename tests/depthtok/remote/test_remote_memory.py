"""What reading from a bucket takes in memory does not depend on how large a file is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from depthtok.remote.location import located
from depthtok.testing import make_rlds
from tests.checked.checked_calls import unchecked

PEAK = """
import re, sys
from pathlib import Path
def peak():
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) / 1024
"""
CONVERT = """
import depthtok
depthtok.convert(sys.argv[1], out=sys.argv[2], schema="libero")
print(peak())
"""
FETCH = """
from depthtok.disk.bytes_of import local_file
from depthtok.remote.location import located
with local_file(located(sys.argv[1])) as file:
    assert file.stat().st_size == int(sys.argv[2])
print(peak())
"""
SLACK = 12  # MiB: the difference of the sizes is 32


def peak(code: str, *words: object) -> float:
    """Peak of the resident memory of a process of its own, MiB."""
    command = [sys.executable, "-c", PEAK + code, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=unchecked(), check=False)
    assert done.returncode == 0, done.stderr
    return float(done.stdout.splitlines()[-1])


@pytest.fixture
def straight(proxy, s3_port, monkeypatch):
    """No proxy in between, which is slow; requests of 1 MiB, 4 in flight."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{s3_port}")
    monkeypatch.setenv("DEPTHTOK_REMOTE_STREAM_MIB", "1")
    monkeypatch.setenv("DEPTHTOK_REMOTE_SILENCE_S", "20")


def enlarged(rlds: Path, url: str, times: int) -> int:
    """Puts a data set into the bucket whose shards have their records so many times; bytes."""
    size = 0
    for path in rlds.iterdir():
        data = path.read_bytes()
        if "tfrecord" in path.name:
            data *= times
        elif path.name == "dataset_info.json":
            info = json.loads(data)
            for split in info["splits"]:
                lengths = [str(int(count) * times) for count in split["shardLengths"]]
                split["shardLengths"] = lengths
            data = json.dumps(info).encode()
        located(f"{url}/{path.name}").put(data)
        size += len(data)
    return size


@pytest.mark.unchecked
def test_converting_a_larger_shard_takes_no_more_memory(straight, tmp_path):
    def edit(number: int, values: dict) -> None:
        noise = np.random.default_rng(number)
        for name in [name for name in values if "image" in name]:
            values[name] = [noise.bytes(100_000) for _ in range(5)]

    rlds = make_rlds(tmp_path / "set", episodes=2, shards=1, depth=False, edit=edit)
    peaks, sizes = [], []
    for times in (4, 20):
        url = f"s3://labs/memory/{times}/1.0.0"
        sizes.append(enlarged(rlds, url, times))
        peaks.append(peak(CONVERT, url, tmp_path / f"out{times}"))
    assert sizes[1] - sizes[0] > 30 << 20
    assert peaks[1] - peaks[0] < SLACK


@pytest.mark.unchecked
def test_fetching_a_larger_file_takes_no_more_memory(straight, tmp_path):
    peaks = []
    for mib in (8, 40):
        located(f"s3://labs/memory/{mib}").put(os.urandom(1 << 20) * mib)
        peaks.append(peak(FETCH, f"s3://labs/memory/{mib}", mib << 20))
    assert peaks[1] - peaks[0] < SLACK
