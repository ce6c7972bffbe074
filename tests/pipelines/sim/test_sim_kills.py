"""However often `eval` and `collect` are killed, nothing finished is done again, and what is there
in the end is the same, byte for byte."""

import signal
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from depthtok.testing import interrupt, temporaries, tree_digest
from tests.pipelines.sim.quick_runs import EPISODES, TRIALS, evaluate, record

PRELOAD = ["zarr", "pipelines.evaluate.verdict", "pipelines.collect"]
RUNS = {  # name: what runs, where its finished items lie, and how many there are in the end
    "eval": (evaluate, "trials/*.json", TRIALS),
    "collect": (record, "recording/parts/task-*/manifest.json", 2 * EPISODES),
}


class Rounds:
    """Runs of one kind in one directory, most of them interrupted."""

    def __init__(self, name, place):
        self.work, self.pattern, self.total = RUNS[name]
        self.place, self.rng = place, np.random.default_rng(len(name))
        self.span = 0.0

    def once(self, signum=None):
        delay = float(self.rng.uniform(0, self.span)) if signum else 0.0
        return interrupt(self.work, (self.place,), signum=signum, delay=delay, preload=PRELOAD)

    def finished(self):
        """Every finished item, and when it was written."""
        return {path: path.stat().st_mtime_ns for path in self.place.glob(self.pattern)}


@pytest.fixture(params=RUNS)
def rounds(request, tmp_path):
    """A fresh directory, and what an undisturbed run makes."""
    undisturbed = Rounds(request.param, tmp_path / "whole")
    ended = undisturbed.once()
    assert ended.exit_code == 0, ended.traceback
    interrupted = Rounds(request.param, tmp_path / "made")
    interrupted.span = ended.seconds
    assert len(undisturbed.finished()) == undisturbed.total
    return interrupted, tree_digest(undisturbed.place)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_interrupted_runs_lose_only_what_was_running(rounds, signum):
    interrupted, expected = rounds
    finished = {}
    for _ in range(6):
        code = interrupted.once(signum).exit_code
        assert code in (0, -signum if signum == signal.SIGKILL else 128 + signum)
        now = interrupted.finished()
        assert finished.items() <= now.items()  # neither lost nor written again
        finished = now
    assert interrupted.once().exit_code == 0
    assert finished.items() <= interrupted.finished().items()
    assert tree_digest(interrupted.place) == expected
    assert temporaries(interrupted.place) == []


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are told by /proc")
def test_workers_do_not_outlive_a_killed_parent(tmp_path):
    """Each ends after the trial at hand, and does not do what is left of the evaluation."""
    folder = tmp_path / "made"
    parent = get_context("forkserver").Process(target=evaluate, args=(folder, 2, 0.1))
    parent.start()
    wait_for(lambda: any(folder.glob("trials/*.json")))
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    parent.kill()
    parent.join()
    wait_for(lambda: not any(is_alive(child) for child in children))
    assert len(children) >= 2
    assert len(list(folder.glob("trials/*.json"))) < TRIALS
    evaluate(tmp_path / "whole")
    evaluate(folder)
    assert tree_digest(folder) == tree_digest(tmp_path / "whole")


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_alive(process):
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # its new parent may not collect it at once
