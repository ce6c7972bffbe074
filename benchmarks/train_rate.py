"""CPU time of an update of `depthtok train-vla`, of this checkout and of another one.

    python benchmarks/train_rate.py OTHER_CHECKOUT [--here train.fast_cpu=true] [--steps 120]

Both train the preset `tiny` on the shipped sample with true depth, in turns, each in a fresh
process on one thread: all that a training does, loading from a frame cache and logging included. A
run of a few updates is subtracted, so that starting is not counted. Prints CPU-seconds of an
update, the ratio of every round, and how far the last losses are apart.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parents[1]
SAMPLE = HERE / "depthtok" / "sample" / "libero_sample" / "1.0.0"
SHORT = 20  # updates of the run that is subtracted
COMMAND = (sys.executable, "-P", "-m", "depthtok.cli")


def environment(checkout: Path) -> dict[str, str]:
    """One thread, this checkout's code, calls unchecked."""
    paths = {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "DEPTHTOK_CHECK_CALLS": "0"}
    return {**os.environ, **paths}


def stores(folder: Path) -> None:
    """The sample's episodes, depth and codes."""
    episodes, depth = folder / "episodes", folder / "depth"
    codebook = HERE / "vqvae" / "demo"
    for words in (
        ("convert", SAMPLE, "--out", episodes),
        ("annotate", episodes, "--estimator", "dataset", "--out", depth),
        ("tokenize", depth, "--codebook", codebook, "--out", folder / "codes"),
    ):
        command = [*COMMAND, *map(str, words)]
        subprocess.run(command, check=True, env=environment(HERE), capture_output=True)


def train(
    checkout: Path, folder: Path, out: Path, steps: int, settings: Sequence[str]
) -> tuple[float, float]:
    """CPU seconds of a training, and its last loss."""
    words = ["train-vla", "--episodes", folder / "episodes", "--codes", folder / "codes"]
    words += ["--preset", "tiny", "--steps", steps, "--seed", 0, "--out", out]
    sets = ["train.ema=0.999", "threads=1", "run.validate_every=0", *settings]
    sets += [f"frame_cache={folder / 'cache'}"]
    words += [word for setting in sets for word in ("--set", setting)]
    command = [*COMMAND, *map(str, words)]
    with Path(os.devnull).open("w") as nowhere:
        process = subprocess.Popen(command, env=environment(checkout), stdout=nowhere)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{checkout}: train-vla ended with {os.waitstatus_to_exitcode(status)}")
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return usage.ru_utime + usage.ru_stime, json.loads(lines[-1])["loss"]


def main() -> None:
    """Prints a line for each checkout, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, help="a checkout to compare with")
    parser.add_argument("--here", nargs="*", default=[], help="settings of this checkout only")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    sides = {HERE: options.here, options.other: []}
    seconds: dict[Path, list[float]] = {side: [] for side in sides}
    losses: dict[Path, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        stores(folder)
        for number in range(options.rounds):
            for side, settings in sides.items():
                spent = []
                for steps in (SHORT, SHORT + options.steps):
                    out = folder / f"{number}-{len(losses)}-{steps}-{hash(side)}"
                    cpu_s, losses[side] = train(side, folder, out, steps, settings)
                    spent.append(cpu_s)
                seconds[side].append((spent[1] - spent[0]) / options.steps)
    for side, figures in seconds.items():
        listed = ", ".join(f"{1000 * figure:.1f}" for figure in figures)
        print(f"{side}: {1000 * statistics.median(figures):.1f} CPU-ms an update ({listed})")
    pairs = zip(seconds[options.other], seconds[HERE], strict=True)
    ratios = sorted(theirs / ours for theirs, ours in pairs)
    apart = abs(losses[HERE] / losses[options.other] - 1)
    print(
        f"{statistics.median(ratios):.2f} times as cheap ({ratios[0]:.2f} to {ratios[-1]:.2f}); "
        f"the last losses are {apart:.1e} apart"
    )


if __name__ == "__main__":
    main()
