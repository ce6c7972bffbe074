"""One page of every kind that the project writes, of small stores and runs.

KINDS says which function of the packages makes a kind; test_pages_open.py opens them all, and sees
that there is no other function that begins a page.
"""

import ast
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import depthtok
from depthtok.data import EpisodeKey
from pipelines.ablate.seed_result import SeedResult
from pipelines.ablate.study_page import ClosedLoop
from pipelines.audit.consistency import ClipConsistency, SelfConsistency
from pipelines.audit.consistency_table import Ran, consistency_audit, consistency_report
from pipelines.evaluate import verdict
from pipelines.evaluate.trials import Evaluation
from pipelines.inspect.pages import demo_report
from tests.pipelines.sim.test_evaluation import evaluated
from vla.evaluation.ablation import RunFigures, table
from vla.evaluation.depth_view import DepthView

ROOT = Path(__file__).parents[2]
BEFORE = ROOT / "tests" / "data" / "before"
CPU = {"device": "cpu"}

KINDS = {
    "pipelines/inspect/pages.py:demo_report": ["demo"],
    "pipelines/inspect/store_pages.py:store_report": ["episodes", "depth", "codes"],
    "vqvae/quality/report.py:build": ["codebook", "eval-vqvae"],
    "vqvae/quality/agreement.py:report": ["two code stores"],
    "vla/evaluation/report.py:run_report": ["policy"],
    "vla/evaluation/report.py:depth_report": ["eval-depth"],
    "vla/evaluation/report.py:mask_report": ["mask"],
    "vla/evaluation/compare.py:report": ["two trainings"],
    "vla/evaluation/ablation.py:report": ["ablation"],
    "pipelines/audit/page.py:make_page": ["audit"],
    "pipelines/audit/comparison_page.py:comparison_report": ["estimators"],
    "pipelines/audit/consistency_table.py:consistency_report": ["estimators alone"],
    "pipelines/evaluate/verdict.py:page": ["evaluation"],
    "pipelines/evaluate/verdict.py:comparison_page": ["two evaluations"],
}
"""The kinds of page, by the function that begins them."""


def beginnings() -> Iterator[str]:
    """Every function of the packages that begins a `Report`, as `file:function`."""
    for package in ("depthtok", "pipelines", "vqvae", "vla"):
        for file in sorted((ROOT / package).rglob("*.py")):
            for function in ast.walk(ast.parse(file.read_text())):
                if isinstance(function, ast.FunctionDef) and any(
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Name)
                    and node.func.id == "Report"
                    for node in ast.walk(function)
                ):
                    yield f"{file.relative_to(ROOT).as_posix()}:{function.name}"


def written_pages(out: Path) -> dict[str, Path]:
    """A page of every kind, below `out`."""
    return {**of_the_demo(out), **of_depth(out), **of_policies(out), **of_trials(out)}


def of_the_demo(out: Path) -> dict[str, Path]:
    """Stores, codebook and run as the demo lays them out, and its page of all of them."""
    sample = out / "sample"
    shutil.copytree(BEFORE / "codebook", out / "codebook")
    shutil.copytree(BEFORE / "run", out / "policy")
    frames = np.full((2, 32, 32, 3), 90, np.uint8)
    ramp = np.linspace(0, 1, 2 * 32 * 32, dtype=np.float32).reshape(2, 32, 32)
    DepthView(frames, ramp, 0.9 * ramp, 16).save(out / "policy")
    depthtok.convert(
        BEFORE / "rlds" / "1.0.0", out=sample / "episodes", schema=str(BEFORE / "schema.toml")
    )
    depthtok.annotate(
        sample / "episodes", out=sample / "depth", estimator="dataset", size=64, **CPU
    )
    depthtok.annotate(
        sample / "episodes",
        out=sample / "estimated-depth",
        estimator="tiny",
        size=64,
        set={"input_size": 28},
        **CPU,
    )
    depthtok.tokenize(sample / "depth", out=sample / "codes", codebook=out / "codebook", **CPU)
    stores = {"estimated": sample / "estimated-depth", "truth": sample / "depth"}
    depthtok.audit_depth(**stores, out=sample / "audit")
    pages = {"demo": demo_report(out, sample)}
    for folder in (out, sample):
        pages |= {page.parent.name: page for page in folder.glob("*/report.html")}
    return pages


def of_depth(out: Path) -> dict[str, Path]:
    """Estimators with and without true depth, a codebook on other data, and two stores of codes."""
    sample, key = out / "sample", EpisodeKey("made", "1", "train", 0, 1, 0)
    pair = [sample / "estimated-depth", sample / "depth"]
    several = depthtok.audit_depth(
        estimated=pair, truth=sample / "depth", codebook=out / "codebook", out=out / "estimators"
    )
    ran = [
        Ran(name, "MIT", "", SelfConsistency([ClipConsistency(key, "front", 8, *figures)], 8, 1.0))
        for name, figures in (
            ("looks", (0.1, 0.2, 0.1, None, 0.4)),
            ("flat", (0.0, 0.0, 0.0, 0.1, 0.99)),
        )
    ]
    audit = consistency_audit(ran, out / "alone" / "report.html")
    book = depthtok.eval_vqvae(
        out / "codebook", sample / "depth", out=out / "judged", clips=2, **CPU
    )
    codes = depthtok.compare(BEFORE / "codes", sample / "codes", out=out / "two-codes")
    return {
        "estimators": several.page,
        "estimators alone": consistency_report(audit, sample / "episodes").write(out / "alone"),
        "eval-vqvae": book.report,
        "two code stores": existing(codes.page),
    }


def of_policies(out: Path) -> dict[str, Path]:
    """Trainings compared, a depth expert judged, a mask, and a study in the closed loop."""
    run, stores = out / "policy", {"episodes": BEFORE / "episodes", "codes": BEFORE / "codes"}
    trainings = depthtok.compare(run, run, out=out / "two-trainings")
    expert = depthtok.eval_depth(
        run,
        **stores,
        codebook=out / "codebook",
        samples=4,
        out=out / "expert",
        source_root=BEFORE / "rlds" / "1.0.0",
        **CPU,
    )
    figures = RunFigures.of(run)
    arms = {arm: [played(arm, seed, figures) for seed in range(3)] for arm in ("full", "none")}
    study = table({arm: [figures] * 3 for arm in arms}).report("a study of two arms")
    closed = ClosedLoop(arms, [("full", "none")])
    return {
        "two trainings": existing(trainings.page),
        "eval-depth": existing(expert.page),
        "mask": existing(depthtok.inspect_mask("tiny", out=out / "mask").page),
        "ablation": closed.report(study).write(out / "study", "ablation"),
    }


def played(arm: str, seed: int, figures: RunFigures) -> SeedResult:
    """One training of an arm and six trials of it, the first of which succeed."""
    won = 3 + (arm == "full") + seed % 2
    trials = {
        f"trial-{n}": {
            "success": n < won,
            "steps": 9,
            "disparity_error": 0.01 * n,
            "early_disparity_error": 0.01 * (n + seed) % 0.04,
        }
        for n in range(6)
    }
    protocol = {"suite": "libero_fake", "trials": 6, "max_steps": 9}
    cost = {"training": 60.0, "evaluation": 30.0}
    return SeedResult(arm, seed, {}, {}, figures, protocol, trials, "d", {}, {}, "1", cost)


def of_trials(out: Path) -> dict[str, Path]:
    """An evaluation with videos, and two of them compared."""
    for name, pace in (("evaluation", 0.12), ("slower", 0.1)):
        evaluated(out / name, pace)
    both = depthtok.compare(out / "evaluation", out / "slower", out=out / "two-evaluations")
    page = verdict.page(Evaluation.open(out / "evaluation")).write(out / "evaluation")
    return {"evaluation": page, "two evaluations": existing(both.page)}


def existing(page: Path | None) -> Path:
    """A page that was asked for."""
    assert page is not None
    return page
