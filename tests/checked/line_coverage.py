"""The share of the packages' lines that the tests' own process runs, counted by SlipCover.

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


def shares(counter: Slipcover) -> dict[str, tuple[int, int]]:
    """Of each package: lines that were run, and all lines, those of files never imported too."""
    counts = dict.fromkeys(PACKAGES, (0, 0))
    for path, lines in counter.get_coverage()["files"].items():
        package = (ROOT / path).relative_to(ROOT).parts[0]
        run, every = counts[package]
        executed = len(lines["executed_lines"])
        counts[package] = run + executed, every + executed + len(lines["missing_lines"])
    return counts


def summary(counter: Slipcover) -> str:
    """The shares, in a line."""
    counts = shares(counter)
    run, every = (sum(column) for column in zip(*counts.values(), strict=True))
    by_package = ", ".join(f"{name} {100 * a / b:.1f} %" for name, (a, b) in counts.items())
    return (
        f"coverage: {100 * run / every:.1f} % of {every:,} lines ({by_package}), "
        "without the processes that tests start"
    )
