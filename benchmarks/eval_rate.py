"""CPU time of a closed-loop trial, of this checkout and of another one.

    python benchmarks/eval_rate.py OTHER_CHECKOUT [--cameras 1] [--trials 6] [--rounds 2]

Both run `depthtok eval` on the same policy (preset `tiny`, random weights), alternately, each in a
fresh process: `libero_goal` 8, 90 actions a trial, videos off. Prints CPU-seconds of a trial
without those of starting (a run of one trial is subtracted), the ratio, and whether the trials'
files are the same, byte for byte.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from vla.data.normalise import Norms, Scale
from vla.model.model import build
from vla.named_configs import load
from vla.training import checkpoint

HERE = Path(__file__).parents[1]
CAMERAS = ("image", "wrist_image")
ACTIONS = 90
RUN = """import importlib.util
if importlib.util.find_spec("triton"):  # crashed earlier versions if loaded after the renderer
    import triton
from depthtok.cli.main import app; app()"""


def policy(run: Path, cameras: int) -> None:
    """A run whose only checkpoint has random weights."""
    names = CAMERAS[:cameras]
    config = load("tiny", {"data": {"cameras": names}, "model": {"cameras": cameras}})
    sizes = (config.model.action_dim, config.model.proprio_dim)
    norms = Norms(*(Scale((-1.0,) * size, (1.0,) * size) for size in sizes))
    names_of_state = ("TrainingState", "State")  # now, and in earlier versions
    state_of = next(vars(checkpoint)[n] for n in names_of_state if n in vars(checkpoint))
    state = state_of(1, {"random": norms})
    weights = build(config.model, 0).state_dict()
    checkpoint.write(checkpoint.place(run, 1), config, state, {"model": weights})


def cpu_seconds(checkout: Path, run: Path, out: Path, trials: int, flags_here: list[str]) -> float:
    """Of one evaluation, with its workers."""
    words = [
        "eval",
        run,
        "--suite",
        "libero_goal",
        "--tasks",
        8,
        "--trials",
        trials,
        "--size",
        128,
        "--max-steps",
        ACTIONS,
        "--videos",
        0,
        "--gripper",
        "open-1_closed1",
        "--device",
        "cpu",
        "--accept",
        "action.names",
        "--accept",
        "proprio.names",
        "--out",
        out,
        *flags_here,
    ]
    environ = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    environ["DEPTHTOK_CHECK_CALLS"] = "0"
    command = [sys.executable, "-P", "-c", RUN, *map(str, words)]
    process = os.spawnve(os.P_NOWAIT, sys.executable, command, environ)
    _, status, usage = os.wait4(process, 0)
    if status:
        sys.exit(f"{checkout}: eval ended with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Prints a line per checkout and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, help="a checkout to compare with")
    parser.add_argument("--cameras", type=int, default=1, choices=(1, 2))
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--policy", type=Path, help=argparse.SUPPRESS)
    parser.add_argument(
        "--here",
        nargs=argparse.REMAINDER,
        default=[],
        help="last: more words for `eval`, here only",
    )
    options = parser.parse_args()
    if options.policy:
        policy(options.policy, options.cameras)
        return
    each: dict[Path, list[float]] = {HERE: [], options.other: []}
    files = {}
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        # By the other one: what it writes opens here, too.
        command = [sys.executable, __file__, options.other, "--cameras", options.cameras]
        environ = {**os.environ, "PYTHONPATH": str(options.other)}
        subprocess.run([*map(str, command), "--policy", str(run)], check=True, env=environ)
        for number in range(options.rounds):
            for checkout, seconds in each.items():
                flags_here = options.here if checkout == HERE else []
                spent = [
                    cpu_seconds(checkout, run, Path(folder) / f"{number}{i}{n}", n, flags_here)
                    for i, n in ((len(files), 1), (len(files), 1 + options.trials))
                ]
                seconds.append((spent[1] - spent[0]) / options.trials)
                out = Path(folder) / f"{number}{len(files)}{1 + options.trials}"
                files[checkout, number] = {
                    path.name: path.read_bytes() for path in out.glob("trials/*.json")
                }
    for checkout, seconds in each.items():
        print(f"{checkout}: {statistics.median(seconds):.2f} CPU-s a trial {sorted(seconds)}")
    here, other = (statistics.median(seconds) for seconds in each.values())
    same = len({tuple(sorted(content.items())) for content in files.values()}) == 1
    print(f"{other / here:.2f} times the trials per CPU-hour; the same trials: {same}")


if __name__ == "__main__":
    main()
