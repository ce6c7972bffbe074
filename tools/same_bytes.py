"""Whether the working tree still makes what another checkout makes, byte for byte.

    git worktree add /tmp/before COMMIT
    python tools/same_bytes.py /tmp/before

Each checkout runs the commands below on the shipped sample, on the CPU with one thread; then this
tree goes on with what the other one made, of which one part and the last steps are missing. What
differs between two runs of the other checkout itself (times, rates) does not count. Prints what
differs, file by file; the exit status is 1 if anything does.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
SAMPLE = "depthtok/sample/libero_sample/1.0.0"
VQVAE = "tests/data/before/vqvae.toml"
MICRO = "tests/data/before/micro.toml"
COMMANDS = {  # {root}: the other checkout, whose data both use
    "episodes": "convert {root}/" + SAMPLE + " --out episodes",
    "depth": "annotate episodes --out depth --estimator dataset --size 64 --device cpu",
    "estimated": "annotate episodes --out estimated --estimator tiny --limit 1 --device cpu",
    "codebook": "train-vqvae depth --out codebook --preset {root}/"
    + VQVAE
    + " --device cpu --threads 1",
    "codes": "tokenize depth --codebook codebook --out codes --device cpu",
    "decoded": "decode codes --codebook codebook --out decoded --device cpu",
    "run": "train-vla --episodes episodes --codes codes --preset {root}/"
    + MICRO
    + " --batch 4 --held-out 0.3 --device cpu --log-every 1 --validate-every 2"
    " --checkpoint-every 2 --threads 1 --steps 4 --force --out run",
}
STORES = ("episodes", "depth", "codes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkout", type=Path)
    other = parser.parse_args().checkout.resolve()
    if not (other / "depthtok").is_dir():
        parser.error(f"{other} is no checkout of depthtok")
    with tempfile.TemporaryDirectory() as folder:
        before, again, now, resumed = (Path(folder) / name for name in "ABCD")
        for directory, root in ((before, other), (again, other), (now, HERE)):
            directory.mkdir()
            run_commands(directory, root, other, list(COMMANDS))
        shutil.copytree(before, resumed)
        names = cut(resumed)
        run_commands(resumed, HERE, other, names)
        volatile = set(differences(before, again))
        failed = False
        for title, directory in (("made anew", now), ("gone on with", resumed)):
            lines = sorted(set(differences(before, directory)) - volatile)
            print(f"{title}: {len(lines)} differences", *lines, sep="\n  ")
            failed |= bool(lines)
    sys.exit(failed)


def run_commands(directory: Path, root: Path, data: Path, names: list[str]) -> None:
    """Runs the commands that make `names`, with the package of the checkout `root`."""
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    for name in names:
        arguments = COMMANDS[name].format(root=data).split()
        command = [sys.executable, "-m", "depthtok", *arguments]
        done = subprocess.run(
            command,
            cwd=directory,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if done.returncode not in (0, 1):  # 1: a warning about quality
            sys.exit(f"{root}: {' '.join(arguments)} ended with {done.returncode}\n{done.stdout}")


def cut(directory: Path) -> list[str]:
    """Removes a part of each store and the end of the training; gives what has to be made again."""
    for name in STORES:
        shutil.rmtree(sorted((directory / name / "parts").glob("*-of-*.*"))[-1])
    for step in sorted((directory / "run" / "checkpoints").iterdir())[1:]:
        shutil.rmtree(step)
    return [*STORES, "run"]


def differences(one: Path, other: Path) -> Iterator[str]:
    """What differs, by file, and within JSON files by key."""
    paths = {
        path.relative_to(root)
        for root in (one, other)
        for path in root.rglob("*")
        if path.is_file()
    }
    for path in paths:
        first, second = one / path, other / path
        if not (first.is_file() and second.is_file()):
            yield f"{path} exists in one only"
        elif first.read_bytes() != second.read_bytes():
            keys = list(_differing_keys(first, second))
            yield from (f"{path} {key}" for key in keys or [""])


def _differing_keys(first: Path, second: Path) -> Iterator[str]:
    if first.suffix == ".json":
        flats = [dict(_flat(json.loads(path.read_text()))) for path in (first, second)]
    elif first.suffix == ".jsonl":
        flats = [
            dict(_flat([json.loads(line) for line in path.read_text().splitlines()]))
            for path in (first, second)
        ]
    else:
        return
    for key in flats[0].keys() | flats[1].keys():
        if flats[0].get(key, flats) != flats[1].get(key, flats):
            yield key


def _flat(value: object, key: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _flat(inner, f"{key}[{number}]")
    else:
        yield key, value


if __name__ == "__main__":
    main()
