"""The share of the packages' lines that the tests' own processes run, counted by SlipCover.

What the tests start (commands, Ray's workers, tests marked `unchecked`) is not counted: each
process would have to prepare its code anew. `make coverage` counts that, too, at 1.5 times the CPU
time.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from slipcover import Slipcover

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("depthtok", "pipelines", "vqvae", "vla")
Lines = dict[str, tuple[list[int], list[int]]]
NEVER = -1  # are counts taken out of the code again: 8 ns a line are less than that would cost


class CountingFinder:
    """Finds the packages' modules as the finders behind it do, and has their lines counted."""

    def __init__(self, counter: Slipcover) -> None:
        self.counter = counter

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] not in PACKAGES:
            return None
        finders = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(name, path, target) for finder in finders)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and (get_code := getattr(spec.loader, "get_code", None)):
            spec.loader.get_code = lambda module: self.counter.instrument(get_code(module))
        return spec


def start() -> Slipcover:
    """Has the lines counted of all modules that are imported from now on. To be called after the
    hook is installed that checks calls: what it makes of the code is what runs."""
    folders = [str(ROOT / package) for package in PACKAGES]
    counter = Slipcover(source=folders, d_miss_threshold=NEVER)
    sys.meta_path.insert(0, CountingFinder(counter))
    return counter


def lines_of(counter: Slipcover) -> Lines:
    """The numbers of the lines that were run, and of those that were not, of every file."""
    files = counter.get_coverage()["files"]
    return {path: (f["executed_lines"], f["missing_lines"]) for path, f in files.items()}


def shares(counts: Sequence[Lines]) -> dict[str, tuple[int, int]]:
    """Of each package: lines that were run by any of the processes that counted, and all lines,
    those of files never imported too."""
    totals = dict.fromkeys(PACKAGES, (0, 0))
    for path in {path for lines in counts for path in lines}:
        package = (ROOT / path).relative_to(ROOT).parts[0]
        parts = [lines[path] for lines in counts if path in lines]
        executed = {number for part in parts for number in part[0]}
        every = executed | {number for part in parts for number in part[1]}
        run, known = totals[package]
        totals[package] = run + len(executed), known + len(every)
    return totals


def summary(counts: Sequence[Lines]) -> str:
    """The shares, in a line."""
    totals = shares(counts)
    run, every = (sum(column) for column in zip(*totals.values(), strict=True))
    by_package = ", ".join(f"{name} {100 * a / b:.1f} %" for name, (a, b) in totals.items())
    return (
        f"coverage: {100 * run / every:.1f} % of {every:,} lines ({by_package}), "
        "without the processes that tests start"
    )
