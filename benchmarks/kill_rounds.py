"""Kills and stops runs at random moments, and compares what is left in the end, byte for byte.

    python benchmarks/kill_rounds.py --rounds 200 --seed 0

Each round begins with an empty store, kills its run again and again (SIGKILL, SIGTERM or SIGINT in
turn, after a random share of the time that a whole run takes) until one ends by itself, and demands
the bytes of an undisturbed run. The last line sums up.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from depthtok.config import RunOptions
from depthtok.episodes import EpisodeStore
from depthtok.sources.rlds import RldsDirectory
from depthtok.testing import interrupt, make_rlds, temporaries, tree_digest
from pipelines.annotate import AnnotateStage
from pipelines.config import AnnotateConfig, ConvertConfig
from pipelines.convert import ConvertStage
from pipelines.stage import Stage, run

PRELOAD = ["zarr", "pipelines.convert", "pipelines.annotate", "torch"]
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
NEVER = 3600.0  # seconds


def stages(root: Path) -> list[Stage]:
    """convert and annotate of a small data set, each done once without a break."""
    rlds = RldsDirectory.open(make_rlds(root / "rlds", episodes=8, steps=12, shards=4))
    run(ConvertStage(rlds, root / "convert", ConvertConfig()), RunOptions())
    config = AnnotateConfig(estimator="dataset", size=32)
    episodes = EpisodeStore(root / "convert")
    run(AnnotateStage(episodes, root / "annotate", config, "cpu"), RunOptions())
    return [
        ConvertStage(rlds, root / "out" / "convert", ConvertConfig()),
        AnnotateStage(episodes, root / "out" / "annotate", config, "cpu"),
    ]


def whole(stage: Stage, workers: int) -> float:
    """Seconds that an undisturbed run takes."""
    started = time.monotonic()
    args = (stage, RunOptions(workers=workers))
    assert interrupt(run, args, signum=None, delay=NEVER, preload=PRELOAD).exit_code == 0
    shutil.rmtree(stage.out)
    return time.monotonic() - started


def survive(
    stage: Stage, span: float, workers: int, rng: np.random.Generator, ends: Counter
) -> float:
    """Interrupts a stage until a run ends by itself; returns the longest stop in seconds."""
    slowest, code = 0.0, None
    while code != 0:
        signum = SIGNALS[rng.integers(len(SIGNALS))]
        args = (stage, RunOptions(workers=workers))
        delay = float(rng.uniform(0, span * 1.2))
        ended = interrupt(run, args, signum=signum, delay=delay, preload=PRELOAD)
        code = ended.exit_code
        assert code in (0, -signal.SIGKILL, 128 + signum), f"ended with {code}"
        if code > 0:
            slowest = max(slowest, ended.seconds)
            assert temporaries(stage.out) == [] or workers, "a stopped run left something behind"
        ends[signal.Signals(signum).name if code else "done"] += 1
    return slowest


def main() -> None:
    """Runs the rounds and says what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0, help="Ray workers; 0 is in one process")
    options = parser.parse_args()
    rng, ends, slowest, wrong = np.random.default_rng(options.seed), Counter(), 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        made = stages(root)
        spans = [whole(stage, options.workers) for stage in made]
        for number in range(options.rounds):
            stage, span = made[number % 2], spans[number % 2]
            slowest = max(slowest, survive(stage, span, options.workers, rng, ends))
            wrong += tree_digest(stage.out) != tree_digest(root / stage.out.name)
            shutil.rmtree(stage.out)
    stops = ", ".join(f"{count} {name}" for name, count in sorted(ends.items()))
    print(f"{options.rounds} rounds ({stops}): {wrong} differ; slowest stop {slowest:.2f} s")
    raise SystemExit(wrong > 0)


if __name__ == "__main__":
    main()
