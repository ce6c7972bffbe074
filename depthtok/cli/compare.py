"""compare: two evaluations, two trainings or two stores of codes side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depthtok.cli.flags import Json
from depthtok.cli.options import command
from depthtok.errors import ConfigError, SourceError
from depthtok.log import result, say

if TYPE_CHECKING:
    from depthtok.report.report import Report

EVALUATION, TRAINING, CODES = "an evaluation", "a training", "a store of codes"


def register(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    command(app)(compare)


def compare(
    a: Annotated[
        Path, typer.Argument(metavar="A", help="an evaluation, a training run, or a CodeStore")
    ],
    b: Annotated[Path, typer.Argument(metavar="B", help="another one of its kind")],
    out: Annotated[
        Path | None, typer.Option("--out", help="also write a page with curves here")
    ] = None,
    json: Json = False,
) -> None:
    """Compare two evaluations, trainings or CodeStores.

    Evaluations are paired trial by trial, trainings by held-out episode, at equal steps; codes of
    one codebook (of ground-truth and of estimated depth) frame by frame.

    Example: depthtok compare runs/eval-with-depth runs/eval-without
    """
    from depthtok.disk.files import require_writable

    kind, other = kind_of(a), kind_of(b)
    if kind != other:
        raise ConfigError(
            f"{a} is {kind}, {b} is {other}",
            remedy="compare two of a kind: of `depthtok eval`, `train-vla` or `tokenize`",
        )
    if out is not None:
        require_writable(out)
    read = {EVALUATION: _evaluations, TRAINING: _trainings, CODES: _codes}[kind]
    words, found, page = read(a, b)
    say(*words, json=json)
    if out is not None:
        say(f"look: {page.write(out, 'compare')}", json=json)
    if json:
        result(found)


def kind_of(path: Path) -> str:
    """What lies at a path. Raises `SourceError` for what cannot be compared."""
    from depthtok.stores.store import is_store
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

    found = verdict.compared(Evaluation.open(a), Evaluation.open(b))
    return verdict.comparison_lines(found), found, verdict.comparison_page(found)


def _trainings(a: Path, b: Path) -> tuple[list[str], dict, Report]:
    from vla.evaluation.compare import Comparison, Judged

    found = Comparison.of(Judged.open(a), Judged.open(b))
    return found.words(), found.to_json(), found.report()


def _codes(a: Path, b: Path) -> tuple[list[str], dict, Report]:
    from depthtok.stores.codes import CodeStore
    from vqvae.quality.agreement import Agreement

    found = Agreement.of(CodeStore(a), CodeStore(b))
    return found.words(), found.to_json(), found.report()
