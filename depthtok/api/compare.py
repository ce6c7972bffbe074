"""Two evaluations, two trainings or two stores of codes side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from depthtok.api.parameters import Positional
from depthtok.errors import ConfigError, SourceError

if TYPE_CHECKING:
    from depthtok.pages.report import Report

EVALUATION, TRAINING, CODES = "an evaluation", "a training", "a store of codes"


@dataclass(frozen=True)
class Comparison:
    """The figures of both and their differences, the same in words, and the page if one was
    written."""

    kind: str  # what both are
    figures: dict[str, Any]
    words: Sequence[str]
    page: Path | None = None


def compare(
    a: Annotated[Path, Positional("A", "an evaluation, a training run, or a CodeStore")],
    b: Annotated[Path, Positional("B", "another one of its kind")],
    out: Annotated[Path | None, "also write a page with curves here"] = None,
) -> Comparison:
    """Compare two evaluations, trainings or CodeStores.

    Evaluations are paired trial by trial, trainings by held-out episode, at equal steps; codes of
    one codebook (of ground-truth and of estimated depth) frame by frame. Two of different kinds are
    refused.

    Example: depthtok compare runs/eval-with-depth runs/eval-without
    """
    from depthtok.disk.files import require_writable

    kind, other = _kind_of(a), _kind_of(b)
    if kind != other:
        raise ConfigError(
            f"{a} is {kind}, {b} is {other}",
            remedy="compare two of a kind: of `depthtok eval`, `train-vla` or `tokenize`",
        )
    if out is not None:
        require_writable(out)
    read = {EVALUATION: _evaluations, TRAINING: _trainings, CODES: _codes}[kind]
    words, figures, page = read(a, b)
    written = page.write(out, "compare") if out is not None else None
    return Comparison(kind, figures, words, written)


def _kind_of(path: Path) -> str:
    """What lies at a path. Raises `SourceError` for what cannot be compared."""
    from depthtok.stores.spec import is_store
    from pipelines.evaluate.trials import CARD
    from vla.training.runlog import METRICS

    for kind, file in ((EVALUATION, CARD), (TRAINING, METRICS)):
        if (path / file).is_file():
            return kind
    if is_store(path):
        return CODES
    raise SourceError(
        f"{path} is not an evaluation, a training run or a CodeStore",
        remedy="name the --out of `depthtok eval`, `depthtok train-vla` or `depthtok tokenize`",
    )


def _evaluations(a: Path, b: Path) -> tuple[list[str], dict, Report]:
    from pipelines.evaluate import verdict
    from pipelines.evaluate.trials import Evaluation

    figures = verdict.compared(Evaluation.open(a), Evaluation.open(b))
    return verdict.comparison_lines(figures), figures, verdict.comparison_page(figures)


def _trainings(a: Path, b: Path) -> tuple[list[str], dict, Report]:
    from vla.evaluation.compare import TrainingComparison, ValidatedRun

    comparison = TrainingComparison.of(ValidatedRun.open(a), ValidatedRun.open(b))
    return comparison.words(), comparison.to_json(), comparison.report()


def _codes(a: Path, b: Path) -> tuple[list[str], dict, Report]:
    from depthtok.stores.codes import CodeStore
    from vqvae.quality.agreement import Agreement

    agreement = Agreement.of(CodeStore(a), CodeStore(b))
    return agreement.words(), agreement.to_json(), agreement.report()
