"""Ranks on Ray: what they are given, and what becomes of a run in which one of them ends."""

import os
import signal
import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from depthtok.errors import ConfigError, OutputError, WorkerDied
from depthtok.signals import Stopped, kept_handlers, stop_request
from pipelines.ray.ranks import run_on_ranks

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning"),
]
NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture(scope="module", autouse=True)
def local_ray():
    """One Ray for all tests; its workers can import this file."""
    import ray

    path = os.pathsep.join(
        filter(None, [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH")])
    )
    with pytest.MonkeyPatch.context() as patch, kept_handlers():
        patch.setenv("PYTHONPATH", path)
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def rank() -> int:
    return int(os.environ["RANK"])


def on_two(task, should_stop=lambda: False, count=2):
    """What rank 0 returned, and the lines that came."""
    lines = []
    results = run_on_ranks(
        task, count, device="cpu", address=None, on_line=lines.append, should_stop=should_stop
    )
    return results, lines


def introduced(say, should_stop):
    """Both ranks tell a server of rank 0's at the agreed place where they are."""
    address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    if rank() == 0:
        with socket.create_server(address) as server:
            other, _ = server.accept()
            with other:
                say({"step": 1, "rank": int(other.recv(1))})
        return {name: os.environ[name] for name in NAMES} | {"folder": str(Path.cwd())}
    for _ in range(100):
        try:
            with socket.create_connection(address, timeout=5) as client:
                client.send(str(rank()).encode())
                return None
        except ConnectionRefusedError:
            time.sleep(0.1)
    raise AssertionError("rank 0 does not answer")


def test_ranks_find_what_torchrun_would_tell_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results, lines = on_two(introduced)
    assert lines == [{"step": 1, "rank": 1}]
    assert (results["RANK"], results["WORLD_SIZE"], results["LOCAL_RANK"]) == ("0", "2", "0")
    assert results["folder"] == str(tmp_path)


def dying(say, should_stop):
    """Rank 1 is killed; rank 0 fails first, as one does whose peer is gone."""
    if rank() == 0:
        raise RuntimeError("connection closed by peer")
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_rank_that_dies_is_named(tmp_path):
    with pytest.raises(WorkerDied, match=r"^rank 1 \(process \d+ on [\d.]+\) died: ") as caught:
        on_two(dying)
    assert "same command" in caught.value.remedy
    assert on_two(introduced)[1]  # the room is free again


def full(say, should_stop):
    if rank() == 1:
        raise OutputError("the disk is full", remedy="make room")
    while True:
        time.sleep(0.1)


def test_what_a_rank_refuses_is_raised(tmp_path):
    with pytest.raises(OutputError, match="the disk is full") as caught:
        on_two(full)
    assert caught.value.remedy == "make room"


def patient(say, should_stop):
    Path("begun").touch()
    say({"step": 1})
    while not should_stop():
        time.sleep(0.02)
    return "saved"


def deaf(say, should_stop):
    Path("begun").touch()
    time.sleep(60)


@contextmanager
def signalled(count: int):
    """Sends this process SIGTERM, `count` times, once a rank has begun."""

    def send():
        while not Path("begun").exists():
            time.sleep(0.05)
        for _ in range(count):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.5)

    thread = threading.Thread(target=send)
    with stop_request() as should_stop:
        thread.start()
        try:
            yield should_stop
        finally:
            thread.join()


def test_a_stop_is_heard_by_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with signalled(1) as should_stop:
        assert on_two(patient, should_stop) == ("saved", [{"step": 1}])


def test_a_second_signal_ends_it_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    started = time.monotonic()
    with pytest.raises(Stopped), signalled(2) as should_stop:
        on_two(deaf, should_stop)
    assert time.monotonic() - started < 30


def test_a_cluster_that_is_too_small_is_refused():
    with pytest.raises(ConfigError, match="3 ranks need 3 CPUs, the cluster has 2") as caught:
        on_two(introduced, count=3)
    assert "--ranks" in caught.value.remedy
