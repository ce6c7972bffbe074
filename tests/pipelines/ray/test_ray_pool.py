"""Ray workers make the same bytes as one process, also when they die."""

import os
import signal
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from depthtok.config import RunOptions
from depthtok.errors import ConfigError, OutputError, WeightsError, WorkerDied
from depthtok.signals import Stopped, kept_handlers, stoppable
from depthtok.stores.episodes import EpisodeStore
from depthtok.testing import temporaries, tree_digest
from pipelines.ray import pool as ray_pool
from pipelines.ray.cluster import cluster, require_answer
from pipelines.ray.pool import mean
from pipelines.run import run
from pipelines.stage import WorkPart

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def local_ray():
    """One Ray for all tests; its workers can import this file."""
    import ray

    path = os.pathsep.join(
        filter(None, [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH")])
    )
    with pytest.MonkeyPatch.context() as patch, kept_handlers():
        patch.setenv("PYTHONPATH", path)
        ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@dataclass(frozen=True)
class Noted:
    """A stage whose workers write down their process numbers, and wait a little in each part."""

    stage: object
    notes: Path
    wait: float = 0.0
    poison: str = ""  # the part that kills its worker
    broken: str = ""  # "build": a worker cannot start; "fill": the disk is full

    def __getattr__(self, name):
        return getattr(object.__getattribute__(self, "stage"), name)

    def __reduce__(self):
        return Noted, (self.stage, self.notes, self.wait, self.poison, self.broken)

    def build(self, device):
        if self.broken == "build":
            raise WeightsError("there are no weights", remedy="fetch them")
        self.notes.mkdir(exist_ok=True)
        (self.notes / str(os.getpid())).touch()
        fill = self.stage.build(device)

        def slow(work, writer, advance):
            if self.broken == "fill":
                raise OSError(28, "No space left on device")
            fill(work, writer, advance)
            time.sleep(self.wait)
            if str(work.name) == self.poison:
                os.kill(os.getpid(), signal.SIGKILL)

        return slow


def killer(notes: Path, kills: int, done: threading.Event) -> None:
    """Kills workers that have noted themselves, one every now and then."""
    killed: set[str] = set()
    while len(killed) < kills and not done.wait(0.1):
        fresh = {path.name for path in notes.glob("*")} - killed
        for process in sorted(fresh)[:1]:
            if done.wait(0.3):
                return
            os.kill(int(process), signal.SIGKILL)
            killed.add(process)


def test_workers_make_the_same_bytes(whole, tmp_path):
    for name, workers in (("convert", 3), ("annotate", 2), ("tokenize", 1)):
        outcome = run(whole.stage(name, tmp_path / name), RunOptions(workers=workers))
        assert (outcome.made, outcome.exit_code) == (3, 0)
        assert tree_digest(tmp_path / name) == tree_digest(whole.root / name)
    assert run(whole.stage("convert", tmp_path / "convert"), RunOptions(workers=2)).made == 0


def test_workers_that_die_cost_nothing(whole, tmp_path):
    stage = Noted(whole.stage("annotate", tmp_path / "out"), tmp_path / "notes", wait=0.6)
    done = threading.Event()
    thread = threading.Thread(target=killer, args=(stage.notes, 2, done))
    thread.start()
    outcome = run(stage, RunOptions(workers=2))
    done.set()
    thread.join()
    assert outcome.exit_code == 0
    assert tree_digest(tmp_path / "out") == tree_digest(whole.root / "annotate")
    assert temporaries(tmp_path / "out") == []
    assert len(list(stage.notes.glob("*"))) >= 3


def test_a_part_that_kills_its_workers_is_given_up(whole, tmp_path, monkeypatch, capsys):
    """What dead workers did of it does not count as progress."""
    monkeypatch.setattr(ray_pool, "POLL_SECONDS", 0.1)
    stage = whole.stage("convert", tmp_path / "out")
    work = stage.work()[1]
    poison, total = str(work.name), sum(part.episodes for part in stage.work())
    noted = Noted(stage, tmp_path / "notes", poison=poison, wait=0.5)
    outcome = run(noted, RunOptions(workers=2))
    assert f" {total - work.episodes}/{total} episodes" in capsys.readouterr().err.splitlines()[-1]
    assert outcome.exit_code == 1
    assert list(outcome.given_up) == [poison]
    assert outcome.made == 2
    assert run(stage, RunOptions()).made == 1
    assert tree_digest(tmp_path / "out") == tree_digest(whole.root / "convert")


@pytest.mark.parametrize(("broken", "error"), [("build", WeightsError), ("fill", OutputError)])
def test_what_no_part_is_to_blame_for_is_raised(whole, tmp_path, broken, error):
    stage = Noted(whole.stage("convert", tmp_path / "out"), tmp_path / "notes", broken=broken)
    with pytest.raises(error) as caught:
        run(stage, RunOptions(workers=1))
    assert caught.value.remedy


def test_relative_paths_are_those_of_where_the_command_was_given(whole, tmp_path, monkeypatch):
    """Workers of a cluster begin in the directory where it was started."""
    (tmp_path / "source").symlink_to(whole.root / "convert")
    monkeypatch.chdir(tmp_path)
    stage = whole.stage("annotate", Path("out"))
    stage = replace(stage, episodes=EpisodeStore(Path("source")))
    outcome = run(stage, RunOptions(workers=1))
    assert (outcome.made, outcome.episodes, outcome.exit_code) == (3, 6, 0)


def test_a_directory_that_a_worker_does_not_have_is_named(tmp_path):
    worker = ray_pool._Worker(b"", "cpu", tmp_path / "gone")
    with pytest.raises(ConfigError, match="gone") as caught:
        worker.make(object.__new__(WorkPart))
    assert "share" in caught.value.remedy


@dataclass(frozen=True)
class Apart:
    """A stage whose workers have another disk below the same path."""

    stage: object
    disk: Path

    def __getattr__(self, name):
        return getattr(object.__getattribute__(self, "stage"), name)

    def __reduce__(self):
        return partial(replace, self.stage, out=self.disk), ()


def test_parts_that_are_not_there_after_all_are_an_error(whole, tmp_path):
    stage = Apart(whole.stage("convert", tmp_path / "out"), tmp_path / "other")
    with pytest.raises(OutputError, match=f"not in {tmp_path / 'out'}") as caught:
        run(stage, RunOptions(workers=1))
    assert "share" in caught.value.remedy


def test_workers_without_work_make_room(whole, tmp_path):
    """Three workers where there is room for one: the others come when it has left."""
    options = RunOptions(workers=3, cpus_per_worker=2)
    with alarm(90):
        outcome = run(whole.stage("convert", tmp_path / "out"), options)
    assert (outcome.made, outcome.exit_code) == (3, 0)


@contextmanager
def alarm(seconds: int):
    """Fails where it would hang."""

    def ring(signum, frame):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


DEATHS = {
    "OutOfMemoryError": ("Task was killed.\nMemory on the node was low.",),
    "NodeDiedError": ("The node is dead.",),
    "WorkerCrashedError": (),
}


def dies(monkeypatch, name: str, times: int) -> None:
    """The first `times` results are the death of their worker, in one of Ray's words for it."""
    import ray

    got, remaining = ray.get, [None] * times

    def get(wanted, *, timeout=None):
        if timeout is None and remaining:
            remaining.pop()
            raise getattr(ray.exceptions, name)(*DEATHS[name])
        return got(wanted, timeout=timeout)

    monkeypatch.setattr(ray, "get", get)


@pytest.mark.parametrize("name", DEATHS)
def test_every_way_to_die_is_a_death(whole, tmp_path, monkeypatch, name):
    dies(monkeypatch, name, times=1)
    outcome = run(whole.stage("convert", tmp_path / "out"), RunOptions(workers=2))
    assert (outcome.made, outcome.exit_code) == (3, 0)
    assert tree_digest(tmp_path / "out") == tree_digest(whole.root / "convert")


def test_a_lack_of_memory_has_its_remedy(whole, tmp_path, monkeypatch):
    dies(monkeypatch, "OutOfMemoryError", times=3)
    outcome = run(whole.stage("convert", tmp_path / "out"), RunOptions(workers=1, limit=1))
    (reason,) = outcome.given_up.values()
    assert "out of memory" in reason
    assert "fewer --workers" in reason


class Unstartable:
    """A worker on a machine that lacks a package."""

    def __init__(self, *args):
        raise ModuleNotFoundError("No module named 'zarr'")

    def make(self, *work):
        """Never comes to it; nor do the others."""

    advanced = stop = make


def test_workers_that_cannot_start_say_why(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_pool, "_Worker", Unstartable)
    with pytest.raises(WorkerDied, match="No module named 'zarr'") as caught:
        run(whole.stage("convert", tmp_path / "out"), RunOptions(workers=1))
    assert caught.value.remedy


@pytest.mark.parametrize("wait", [0.5, 30.0])  # a part that ends soon, and one that does not
def test_a_signal_stops_driver_and_workers(whole, tmp_path, wait):
    stage = Noted(whole.stage("convert", tmp_path / "out"), tmp_path / "notes", wait=wait)
    sent = []

    def stop():
        while not list(stage.notes.glob("*")):
            time.sleep(0.05)
        time.sleep(0.2)
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(Stopped) as caught, stoppable():
        run(stage, RunOptions(workers=2))
    thread.join()
    assert caught.value.signum == signal.SIGTERM
    assert time.monotonic() - sent[0] < 15
    assert temporaries(tmp_path / "out") == []
    assert run(whole.stage("convert", tmp_path / "out"), RunOptions()).exit_code == 0
    assert tree_digest(tmp_path / "out") == tree_digest(whole.root / "convert")


def test_a_signal_while_ray_starts_leaves_no_alarm(monkeypatch):
    """Ray's own handler sets one, which aborts the process seconds later."""
    import ray

    def init(**settings):
        signal.alarm(30)
        raise Stopped(signal.SIGTERM)

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(Stopped), cluster(1, None):
        pass
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


@pytest.mark.parametrize("address", [None, "", "local", "auto", "10.0.0.1:6379"])
def test_a_ray_that_runs_here_is_joined_only_where_asked(monkeypatch, address):
    """Without an address `ray.init` would join it, and refuse a number of cores."""
    import ray

    calls = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **settings: calls.append(settings))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with cluster(2, address):
        pass
    assert calls[0]["address"] == (address or "local")
    assert ("num_cpus" in calls[0]) == (address in (None, "", "local"))


def test_an_address_that_nobody_answers_at_is_refused_soon():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))  # and does not listen
        port = listener.getsockname()[1]
        for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
            with pytest.raises(ConfigError, match="no Ray cluster answers") as caught:
                require_answer(address)
            assert "ray start" in caught.value.remedy
        for address in ("nowhere", "host:port", ":6379", "ray://"):
            with pytest.raises(ConfigError, match="is not an address"):
                require_answer(address)
        listener.listen()
        require_answer(f"127.0.0.1:{port}")
        require_answer("auto")


def test_the_line_shows_the_mean_over_workers():
    reports = [{"busy": 0.5, "device": "a"}, {}, {"busy": 1.0, "device": "b"}]
    assert mean(reports) == {"busy": 0.75, "device": "b"}
    assert mean([]) == {}
