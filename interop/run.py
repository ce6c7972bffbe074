"""Whether other tools read what depthtok writes, and talk to what it serves: `make interop`.

    python interop/run.py [--required] [CHECK...]

Makes an environment for each kind of tool below `.interop/`, stores, a policy and a file for
rerun, and runs every check. Without a Python 3.12, which current versions of some want, nothing is
checked: that is said, and is an error with `--required`, for CI.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "interop")]

from environments import ENVIRONMENTS, Environment, find_python, make  # noqa: E402

LOUD = "!" * 60
SERVING = "serving on ws://"
LONGEST_S = 900  # of a check: some seconds, and more on a busy machine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--required", action="store_true", help="a Python 3.12 must be there")
    parser.add_argument(
        "checks", nargs="*", metavar="CHECK", help="these alone, such as xarray_reads"
    )
    arguments = parser.parse_args()
    os.chdir(ROOT)
    known = [check for environment in ENVIRONMENTS for check in environment.checks]
    if unknown := set(arguments.checks) - set(known):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    python = find_python()
    if python is None:
        print(f"{LOUD}\nskipped: no Python 3.12\n{LOUD}", flush=True)
        print("name one by INTEROP_PYTHON=/path/to/python3.12")
        return 1 if arguments.required else 0
    with tempfile.TemporaryDirectory(prefix="depthtok-interop-") as name:
        return checked(Path(name), python, arguments.checks)


def checked(folder: Path, python: Path, asked: Sequence[str]) -> int:
    """Runs the checks that were asked for (none: all), and prints what came out of each; 1 if one
    failed."""
    import data  # loads torch

    rows: list[tuple[str, str, float]] = []
    start = time.monotonic()
    data.make(folder)
    rows.append(("stores and a policy", "made", time.monotonic() - start))
    with served(folder / "run") as address:
        for environment in ENVIRONMENTS:
            checks = [check for check in environment.checks if not asked or check in asked]
            if not checks:
                continue
            if is_left_out(environment, asked):
                rows += [(check, "LEFT OUT", 0.0) for check in checks]
                print(f"{LOUD}\nleft out: {', '.join(checks)}\n{LOUD}", flush=True)
                print(f"name a Python with {' '.join(environment.packages)} by")
                print(f"{environment.named_by}=/path/to/python, or ask for it (gigabytes):")
                print(f"python interop/run.py {checks[0]}", flush=True)
                continue
            start = time.monotonic()
            interpreter = make(environment, python)
            rows.append((f"environment {environment.name}", "ready", time.monotonic() - start))
            for check in checks:
                start = time.monotonic()
                script = ROOT / "interop" / "checks" / f"{check}.py"
                result = outcome([interpreter, script, folder, address])
                rows.append((check, result, time.monotonic() - start))
    print("\nBeside other tools:")
    for what, result, seconds in rows:
        print(f"{what:24} {result:8} {seconds:6.1f} s")
    return any(result == "FAILED" for _, result, _ in rows)


def outcome(command: Sequence[str | Path]) -> str:
    """What came out of a check; one that hangs is ended, and has failed."""
    try:
        done = subprocess.run(command, env=bare(), timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        print(f"{command[1]} did not end in {LONGEST_S} s", flush=True)
        return "FAILED"
    return "FAILED" if done.returncode else "ok"


def is_left_out(environment: Environment, asked: Sequence[str]) -> bool:
    """Whether an environment is neither named nor asked for: making it takes gigabytes."""
    return bool(environment.named_by) and not asked and environment.named_by not in os.environ


def bare() -> dict[str, str]:
    """The environment of a check: nothing of this tree is on its path."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


@contextmanager
def served(run: Path) -> Iterator[str]:
    """The address of `depthtok serve RUN`, while the block runs."""
    from data import GRIPPER

    words = ["serve", run, "--port", 0, "--gripper", GRIPPER, "--device", "cpu"]
    command = [sys.executable, "-m", "depthtok", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            for line in server.stdout:
                if line.startswith(SERVING):
                    yield line.removeprefix(SERVING).split()[0]
                    break
            else:
                raise SystemExit("depthtok serve ended before it served")
        finally:
            server.terminate()


if __name__ == "__main__":
    sys.exit(main())
