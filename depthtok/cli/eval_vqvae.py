"""eval-vqvae: what a codebook makes of other data."""

from __future__ import annotations

from depthtok.api.eval_vqvae import CodebookEvaluation, eval_vqvae
from depthtok.cli.options import Command
from depthtok.cli.train_vqvae import describe
from depthtok.log import result, say, suggest, typed


def tell(evaluation: CodebookEvaluation, json: bool) -> None:
    """Prints the codebook's quality on the data."""
    codebook, quality = evaluation.codebook, evaluation.quality
    say(*describe(codebook, quality), f"look: {evaluation.report}", json=json)
    codes = ("tokenize", "DEPTH", "--codebook", codebook, "--out", "CODES")
    suggest(typed(*codes), json=json)
    if json:
        report = str(evaluation.report)
        result({"codebook": str(codebook), "report": report, "quality": quality})


COMMAND = Command(eval_vqvae, tell)
