"""A Ray that dies: noticed, said in two lines, and nothing of it is left."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from depthtok.errors import ConfigError, WorkerDied
from depthtok.testing import tree_digest
from pipelines.ray import health as ray_health
from pipelines.ray import reaper as ray_reaper
from pipelines.ray.health import Health, Room, answers, guarded, places, starting
from pipelines.ray.reaper import VARIABLE, Reaper, marked, reaped

ALL = int(os.environ.get("DEPTHTOK_DAMAGES", "1")) > 1  # every process in every stage
SOON = [("annotate", "raylet", 0.0), ("annotate", "gcs_server", 0.5), ("convert", "driver", 0.0)]
VICTIMS = (
    "driver",
    "raylet",
    "gcs_server",
    "ray::_Worker",
    "ray::DashboardAgent",
    "ray::RuntimeEnvAgent",
    "dashboard.py",
    "log_monitor.py",
    "monitor.py",
)
STAGES = ("convert", "annotate", "tokenize")
EVERY = [(stage, victim, wait) for stage in STAGES for victim in VICTIMS for wait in (0.0, 1.0)]
LEFT_SECONDS = 20


def test_a_place_that_stops_answering_is_an_error_after_a_while():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        health = Health({"it is away": lambda: answers(address)}, patience=0.2)
        health.check()
    health.check()
    health.require()  # not yet
    time.sleep(0.25)
    health.check()
    with pytest.raises(WorkerDied, match=r"^Ray is gone: it is away") as caught:
        health.require()
    assert "same command" in caught.value.remedy


def test_an_error_that_comes_first_is_explained_by_the_death_of_ray(monkeypatch):
    monkeypatch.setattr(ray_health, "CHECK_SECONDS", 0.02)
    monkeypatch.setattr(ray_health, "LOCAL_PATIENCE", 0.1)
    with pytest.raises(WorkerDied, match="away"), guarded(Health({"away": lambda: False}, 0.1)):
        raise RuntimeError("connection closed")
    with pytest.raises(RuntimeError), guarded(Health({"away": lambda: True}, 0.1)):
        raise RuntimeError("a mistake")


STUCK = """
import time
from pipelines.ray import health as ray_health
ray_health.CHECK_SECONDS = ray_health.LEAVE_SECONDS = 0.1
with ray_health.guarded(ray_health.Health({"it is away": lambda: False}, 0.1)):
    time.sleep(60)
"""


def test_a_process_that_does_not_come_out_of_ray_is_ended():
    done = subprocess.run([sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    problem, remedy = done.stderr.strip().splitlines()
    assert problem == "error: Ray is gone: it is away"
    assert remedy.startswith("  fix: run the same command again")


NO_RAY = ModuleType("ray")  # a client does not ask it


def test_a_client_asks_the_server_that_it_was_given():
    assert places(NO_RAY, "ray://head:7") == {"the cluster's server": ("head", 7)}
    assert places(NO_RAY, "ray://head") == {"the cluster's server": ("head", 10001)}


def test_what_ray_says_when_it_does_not_start_is_passed_on():
    with pytest.raises(WorkerDied, match=r"^Ray did not start: no memory\n"), starting("none"):
        raise Exception("long story\nno memory")
    with pytest.raises(ConfigError, match="ours"), starting("none"):
        raise ConfigError("ours")


def test_a_cluster_without_room_is_waited_for_but_not_for_ever(monkeypatch, capsys):
    now, fits = [1000.0], [False]
    monkeypatch.setattr(ray_health.time, "monotonic", lambda: now[0])
    room = Room(lambda: fits[0], "a worker (3 CPU)")

    def after(seconds):
        now[0] += seconds
        room.require()

    after(11)
    after(11)
    assert capsys.readouterr().err.count("no room for a worker (3 CPU): waiting") == 1
    fits[0] = True
    after(11)
    fits[0] = False
    after(800)
    with pytest.raises(WorkerDied, match=r"no room for a worker \(3 CPU\) for 15 minutes"):
        after(200)


ORPHAN = """
import os, subprocess, sys, time
from pipelines.ray.reaper import reaped
with reaped() as reaper:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True,
                     env={**os.environ, "DEPTHTOK_RAY": reaper.mark}, stderr=subprocess.DEVNULL)
    if sys.argv[1:]:
        reaper.started()
    print(reaper.mark, flush=True)
    time.sleep(60)
"""


def test_nothing_outlives_the_block():
    with reaped() as reaper:
        child = subprocess.Popen(["sleep", "60"], env={**os.environ, VARIABLE: reaper.mark})
        gone(lambda: marked(reaper.mark) != [child.pid], 5)  # Popen returns amid the child's exec
    assert child.wait(5) == -signal.SIGKILL


def test_a_reaper_that_was_killed_does_not_end_the_command():
    with subprocess.Popen(["true"], stdin=subprocess.PIPE, bufsize=0) as process:
        process.wait(5)
        with pytest.raises(BrokenPipeError):
            process.stdin.write(b"what the reaper is told")
        Reaper("mark", process).started()


@pytest.mark.parametrize("started", [True, False])
def test_nothing_outlives_a_driver_that_is_killed(started):
    """While Ray starts, its own code may end the driver: that is said."""
    words = [sys.executable, "-c", ORPHAN, *["started"] * started]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(words, text=True, **pipes) as driver:
        mark = driver.stdout.readline().strip()
        assert len(marked(mark)) == 1
        driver.kill()
        killed_at, said = time.monotonic(), driver.stderr.read()
    assert said == ("" if started else ray_reaper.ENDED)
    assert time.monotonic() - killed_at < ray_reaper.GRACE_SECONDS / 2
    gone(lambda: marked(mark), ray_reaper.GRACE_SECONDS + 5)


def gone(left, seconds):
    """Waits for nothing to be left."""
    end = time.monotonic() + seconds
    while left():
        assert time.monotonic() < end, left()
        time.sleep(0.1)


def of_driver(pid):
    """Of all processes of a driver's Ray their numbers, by what they are."""
    processes = {}
    for number in sorted(int(entry.name) for entry in Path("/proc").glob("[0-9]*")):
        entry = Path(f"/proc/{number}")
        try:
            ours = f"{VARIABLE}={pid}.".encode() in (entry / "environ").read_bytes()
            words = (entry / "cmdline").read_bytes().decode().split("\0") if ours else ()
        except OSError:
            continue
        for word in [word for word in words if not word.startswith("-")][:3]:
            processes.setdefault(word.rpartition("/")[2].strip(), number)
    return processes


def command(name, whole, out):
    sources = {"annotate": whole.root / "convert", "tokenize": whole.root / "annotate"}
    flags = {"annotate": ["--estimator", "dataset"], "tokenize": ["--codebook", whole.book]}
    words = [name, sources.get(name, whole.rlds), "--out", out, *flags.get(name, [])]
    return [sys.executable, "-m", "depthtok.cli", *map(str, words)]


@pytest.mark.ray
@pytest.mark.parametrize(("name", "victim", "wait"), EVERY if ALL else SOON)
def test_a_killed_process_of_ray_is_an_error_or_nothing(whole, tmp_path, name, victim, wait):
    words = command(name, whole, tmp_path / "out")
    workers = ["--workers", "2", "--cpus-per-worker", "0.5"]
    driver = subprocess.Popen(
        [*words, *workers], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    awaited = "raylet" if victim == "driver" else victim
    while awaited not in of_driver(driver.pid) and driver.poll() is None:
        time.sleep(0.02)
    time.sleep(wait)
    hit = driver.pid if victim == "driver" else of_driver(driver.pid).get(victim)
    if hit and driver.poll() is None:
        os.kill(hit, signal.SIGKILL)
    with driver:
        said = driver.communicate(timeout=120)[1]
    assert "Traceback" not in said
    assert driver.returncode in (0, 1, 2) or victim == "driver", said
    if driver.returncode in (1, 2):  # 1: by Ray's own code, in its start
        problem, remedy = said.strip().splitlines()[-2:]
        assert problem.startswith("error: ")
        assert remedy.startswith("  fix: ")
    gone(lambda: of_driver(driver.pid), LEFT_SECONDS)
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    reference = tmp_path / "reference"
    subprocess.run(command(name, whole, reference), check=True, capture_output=True)
    assert tree_digest(tmp_path / "out") == tree_digest(reference)
