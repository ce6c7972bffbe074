"""Figures of a study, from the files of its seeds alone, for a page of docs/.

    python tools/study_figures.py docs/experiment/study.toml docs/experiment

Writes `differences.svg`, and where trials have errors of predicted codes `foretelling.svg` (those
of the first plans, for the first such arm). `depthtok ablate STUDY --report` shows more.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from depthtok.api.study import Study
from depthtok.config import load_toml
from depthtok.pages.plots import draw_forest
from pipelines.ablate.seed_result import SeedResult
from pipelines.ablate.study_page import ClosedLoop, forest_rows

INKS = 'style="color: #64748b; --line: #94a3b855"'  # readable on white and on black


def closed_loop(study: Study) -> ClosedLoop:
    """What the files of a study's seeds show; arms without one are left out."""
    arms = {}
    for arm in study.variants:
        paths = [SeedResult.path(study.results, arm, seed) for seed in study.seeds]
        if results := [SeedResult.read(path) for path in paths if path.is_file()]:
            arms[arm] = results
    return ClosedLoop(arms, study.compare)


def figures(shown: ClosedLoop) -> dict[str, str]:
    """SVG by name."""
    rows = forest_rows(shown.compared)
    title = "Differences of success rates, 95 % intervals of trainings and trials"
    drawn = {"differences": draw_forest(title, rows, "points", wide=False)}
    for one in shown.foretold:
        if "foretelling" not in drawn:  # the first is of the first plans
            title = f"{one.arm}: success by the error of predicted codes in {one.when}"
            drawn["foretelling"] = draw_forest(title, one.rows(), "% of trials won", wide=False)
    return {name: str(svg).replace("<svg", f"<svg {INKS}", 1) for name, svg in drawn.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    shown = closed_loop(Study.read(load_toml(options.study), str(options.study)))
    if not shown.arms:
        parser.error(f"no seed of {options.study} is finished")
    for name, svg in figures(shown).items():
        (options.out / f"{name}.svg").write_text(f"{svg}\n")
        print(options.out / f"{name}.svg")


if __name__ == "__main__":
    main()
