"""All depth estimators with their published weights, on the sample that ships: one table.

    python benchmarks/official_estimators.py [--out official] [--estimators vits gemdepth ...]

Fetches what is missing from the Hugging Face Hub (extras `hf` and `da3`; some weights may not be
used commercially, which each command says), annotates the shipped sample with each estimator, and
compares them with the simulator's own depth: `depthtok audit-depth` prints the table, and writes a
page. An estimator whose weights cannot be had is named, and left out. What is done is kept: the
same command goes on. On a CPU the large networks take hours; the first run needs 10 GB for weights.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

ESTIMATORS = (
    *("vits", "vitb", "vitl", "gemdepth"),
    *("da3-mono-large", "da3-metric-large", "da3-small", "da3-base"),
)


SAMPLE = Path(str(files("depthtok") / "sample" / "libero_sample"))
DEMO = Path(__file__).parent.parent / "vqvae" / "demo"  # for the codes that depth leads to


def depthtok(*words: str | Path) -> int:
    """Runs a command, and says it; its exit code."""
    print("\n$ depthtok", *words, flush=True)
    command = [sys.executable, "-m", "depthtok", *map(str, words)]
    return subprocess.run(command, check=False).returncode


def compare(
    estimators: Sequence[str],
    out: Path,
    options_of_annotate: Sequence[str] = (),
    data: Path = SAMPLE,
) -> int:
    """Annotates and compares; the exit code: 0 if every estimator is in the table and sound.
    `options_of_annotate` are further words for each."""
    episodes, truth = out / "episodes", out / "true-depth"
    if depthtok("convert", data, "--out", episodes) or depthtok(
        "annotate", episodes, "--out", truth, "--estimator", "dataset"
    ):
        return 1
    annotated = [
        name
        for name in estimators
        if not depthtok(
            "annotate", episodes, "--out", out / name, "--estimator", name, *options_of_annotate
        )
    ]
    missing = [name for name in estimators if name not in annotated]
    if missing:
        print(f"\nnot in the table: {', '.join(missing)} (why: above)")
    if not annotated:
        return 1
    stores = [word for name in annotated for word in ("--estimated", out / name)]
    book = () if "--size" in options_of_annotate else ("--codebook", DEMO)  # it is for 256 px
    code = depthtok("audit-depth", *stores, "--truth", truth, *book, "--out", out / "audit")
    return code or int(bool(missing))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("official"))
    parser.add_argument("--estimators", nargs="+", default=ESTIMATORS)
    parser.add_argument("--data", type=Path, default=SAMPLE, help="another data set with depth")
    options, options_of_annotate = parser.parse_known_args()
    return compare(options.estimators, options.out, options_of_annotate, options.data)


if __name__ == "__main__":
    sys.exit(main())
