"""However often `eval` and `collect` are killed, nothing finished is done again, and what is there
in the end is the same, byte for byte."""

import signal
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from depthtok.testing import interrupt, temporaries, tree_digest
from tests.sim.quick_runs import EPISODES, TRIALS, evaluate, record

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
    whole = Rounds(request.param, tmp_path / "whole")
    ended = whole.once()
    assert ended.exit_code == 0, ended.traceback
    made = Rounds(request.param, tmp_path / "made")
    made.span = ended.seconds
    assert len(whole.finished()) == whole.total
    return made, tree_digest(whole.place)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_interrupted_runs_lose_only_what_was_running(rounds, signum):
    made, expected = rounds
    kept = {}
    for _ in range(6):
        code = made.once(signum).exit_code
        assert code in (0, -signum if signum == signal.SIGKILL else 128 + signum)
        now = made.finished()
        assert kept.items() <= now.items()  # neither lost nor written again
        kept = now
    assert made.once().exit_code == 0
    assert kept.items() <= made.finished().items()
    assert tree_digest(made.place) == expected
    assert temporaries(made.place) == []


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are told by /proc")
def test_workers_do_not_outlive_a_killed_parent(tmp_path):
    """Each ends after the trial at hand, and does not do what is left of the evaluation."""
    place = tmp_path / "made"
    parent = get_context("forkserver").Process(target=evaluate, args=(place, 2, 0.1))
    parent.start()
    wait_for(lambda: any(place.glob("trials/*.json")))
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    parent.kill()
    parent.join()
    wait_for(lambda: not any(is_alive(child) for child in children))
    assert len(children) >= 2
    assert len(list(place.glob("trials/*.json"))) < TRIALS
    evaluate(tmp_path / "whole")
    evaluate(place)
    assert tree_digest(place) == tree_digest(tmp_path / "whole")


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
