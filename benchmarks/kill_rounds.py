"""Kills and stops runs at random moments, and compares the final results byte for byte.

    python benchmarks/kill_rounds.py --rounds 200 --seed 0
    python benchmarks/kill_rounds.py --rounds 10 --workers 2

Each round runs one of convert, annotate and tokenize from an empty store, interrupts it repeatedly
(SIGKILL, SIGTERM or SIGINT, after a random share of the duration of an undisturbed run) until a run
ends by itself, and requires the bytes of an undisturbed run. With `--workers`, Ray workers are
killed as well. Processes start with everything imported, so that interruptions hit the actual work.
The last line is a summary.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import numpy as np

from depthtok.config import RunOptions
from depthtok.progress import progress
from depthtok.sources.rlds import RldsDirectory
from depthtok.stores.codebook import Codebook
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.testing import interrupt, make_rlds, temporaries, tree_digest
from pipelines.annotate.stage import AnnotateStage
from pipelines.config import AnnotateConfig, ConvertConfig, TokenizeConfig
from pipelines.convert.stage import ConvertStage
from pipelines.run import run
from pipelines.stage import Stage
from pipelines.tokenize import TokenizeStage

PRELOAD = ["zarr", "ray", "pipelines.convert.stage", "pipelines.annotate.stage", "vqvae.codec"]
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
STAGES = ("convert", "annotate", "tokenize")
WORKER_KILLS = 2  # per run: fewer than the deaths after which a part is given up


def stage(name: str, root: Path, out: Path) -> Stage:
    """One stage over the small data set in `root`, from the previous store."""
    if name == "convert":
        return ConvertStage(RldsDirectory.open(root / "rlds"), out, ConvertConfig())
    if name == "annotate":
        config = AnnotateConfig(estimator="dataset")
        return AnnotateStage(EpisodeStore(root / "convert"), out, config, "cpu")
    depth, book = DepthStore(root / "annotate"), Codebook.load(files("vqvae") / "demo")
    return TokenizeStage(depth, book, out, TokenizeConfig(), "cpu", {"failures": []})


def whole(stage: Stage, options: RunOptions) -> float:
    """The duration of an undisturbed run in seconds, in a warmed-up process."""
    for _ in range(2):
        shutil.rmtree(stage.out, ignore_errors=True)
        ended = interrupt(run, (stage, options), signum=None, delay=0.0, preload=PRELOAD)
        assert ended.exit_code == 0, ended.traceback
    shutil.rmtree(stage.out)
    return ended.seconds


def survive(
    stage: Stage, span: float, options: RunOptions, rng: np.random.Generator, ends: Counter
) -> float:
    """Interrupts a stage until a run ends by itself; returns the longest stop in seconds."""
    slowest, code = 0.0, None
    while code != 0:
        signum = SIGNALS[rng.integers(len(SIGNALS))]
        delay, before = float(rng.uniform(0, span * 1.1)), {*temporaries(stage.out)}
        with worker_deaths(rng, ends) if options.workers else nothing():
            ended = interrupt(run, (stage, options), signum=signum, delay=delay, preload=PRELOAD)
        code = ended.exit_code
        expected = {0, -signal.SIGKILL, 128 + signum}
        if options.workers:  # while Ray starts, its native SIGTERM handler ends the process
            expected.add(-signal.SIGTERM)
        assert code in expected, f"ended with {code}: {ended.traceback}"
        if code > 0:
            slowest = max(slowest, ended.seconds)
            leftovers = {
                *temporaries(stage.out)
            } - before  # the next run cleans up after a killed one
            assert not leftovers, f"a stopped run left {leftovers}"
        ends[signal.Signals(signum).name if code else "done"] += 1
    return slowest


@contextmanager
def nothing() -> Iterator[None]:
    """Kills no workers."""
    yield


@contextmanager
def worker_deaths(rng: np.random.Generator, ends: Counter) -> Iterator[None]:
    """Kills Ray workers below this process at random moments, a few of them."""
    over, waits = threading.Event(), rng.uniform(0, 0.5, WORKER_KILLS)

    def kill() -> None:
        for wait in waits:
            while not (pids := workers()):
                if over.wait(0.02):
                    return
            if over.wait(wait):
                return
            for process in pids[:1]:
                try:
                    os.kill(process, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                ends["worker killed"] += 1

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def workers() -> list[int]:
    """Ray workers that descend from this process."""
    pids = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            title = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if title.startswith(b"ray::_Worker") and descends(int(entry.name)):
            pids.append(int(entry.name))
    return pids


def descends(process: int) -> bool:
    """Whether this process is among the ancestors of another."""
    while process > 1:
        if process == os.getpid():
            return True
        try:
            status = Path(f"/proc/{process}/stat").read_text()
        except OSError:
            return False
        process = int(status.rpartition(")")[2].split()[1])
    return False


def main() -> None:
    """Runs the rounds and prints the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0, help="Ray workers; 0 is in one process")
    given = parser.parse_args()
    options = RunOptions(workers=given.workers)
    rng, ends, slowest, wrong = np.random.default_rng(given.seed), Counter(), 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_rlds(root / "rlds", episodes=8, steps=6, shards=4)
        for name in STAGES:
            run(stage(name, root, root / name), RunOptions())
        stages = [stage(name, root, root / "out" / name) for name in STAGES]
        spans = [whole(stage_run, options) for stage_run in stages]
        with progress(total=given.rounds, unit="rounds", label="kill_rounds") as bar:
            for number in range(given.rounds):
                stage_run, span = stages[number % len(stages)], spans[number % len(stages)]
                slowest = max(slowest, survive(stage_run, span, options, rng, ends))
                wrong += tree_digest(stage_run.out) != tree_digest(root / stage_run.out.name)
                shutil.rmtree(stage_run.out)
                bar.advance(differ=wrong, **{name.lower(): n for name, n in ends.items()})
    took = ", ".join(f"{name} {span:.2f} s" for name, span in zip(STAGES, spans, strict=True))
    stops = ", ".join(f"{count} {name}" for name, count in sorted(ends.items()))
    print(f"undisturbed: {took}")
    print(f"{given.rounds} rounds ({stops}): {wrong} differ; slowest stop {slowest:.2f} s")
    raise SystemExit(wrong > 0)


if __name__ == "__main__":
    main()
