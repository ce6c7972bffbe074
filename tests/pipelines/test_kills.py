"""However often a run is killed, the store it leaves in the end is the same, byte for byte."""

import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest

from depthtok.config import RunOptions
from depthtok.testing import interrupt, temporaries, tree_digest
from pipelines.run import run

PRELOAD = [
    "zarr",
    "depthtok.cli.main",
    "pipelines.convert.stage",
    "pipelines.annotate.stage",
    "vqvae.codec",
]
STAGES = ["convert", "annotate", "tokenize"]


@dataclass(frozen=True)
class Rounds:
    """Interrupted runs of one stage, each after a random time."""

    stage: object
    span: float  # seconds that a run may take before the signal
    rng: np.random.Generator

    def once(self, signum: int | None, **options):
        delay = self.rng.uniform(0, self.span) if signum else 600.0
        args = (self.stage, RunOptions(**options))
        return interrupt(run, args, signum=signum, delay=delay, preload=PRELOAD)


@pytest.fixture(params=STAGES)
def rounds(request, whole, tmp_path):
    """Of each stage, into a fresh store, with the time that an undisturbed run takes."""
    out, seed = tmp_path / "timed", STAGES.index(request.param)
    timed = Rounds(whole.stage(request.param, out), 0.0, np.random.default_rng(seed))
    timed.once(None)
    started = time.monotonic()
    timed.once(None, resume=False)
    span = time.monotonic() - started
    stage = whole.stage(request.param, tmp_path / "out")
    return Rounds(stage, span * 1.1, timed.rng), tree_digest(whole.root / request.param)


def test_killed_runs_end_in_the_same_bytes(rounds):
    rounds, expected = rounds
    codes = {rounds.once(signal.SIGKILL).exit_code for _ in range(6)}
    assert codes <= {0, -signal.SIGKILL}
    assert rounds.once(None).exit_code == 0
    assert tree_digest(rounds.stage.out) == expected
    assert temporaries(rounds.stage.out) == []


def test_stopped_runs_leave_nothing_behind(rounds):
    rounds, expected = rounds
    for signum in (signal.SIGTERM, signal.SIGINT) * 3:
        ended = rounds.once(signum)
        assert ended.exit_code in (0, 128 + signum)
        assert ended.seconds < 10
        assert temporaries(rounds.stage.out) == []
    assert rounds.once(None).exit_code == 0
    assert tree_digest(rounds.stage.out) == expected


def test_racing_runs_end_with_one_copy(rounds):
    rounds, expected = rounds
    for _ in range(2):
        with ThreadPoolExecutor(3) as pool:
            ended = list(pool.map(rounds.once, [None, None, None]))
        assert [end.exit_code for end in ended] == [0, 0, 0]
        assert tree_digest(rounds.stage.out) == expected
        assert temporaries(rounds.stage.out) == []
        shutil.rmtree(rounds.stage.out)
