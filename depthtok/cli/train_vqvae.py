"""train-vqvae: DepthStores to a codebook, with its quality report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from depthtok.api.train_vqvae import TrainedCodebook, train_vqvae
from depthtok.cli.next_step import after_codebook
from depthtok.cli.options import Command
from depthtok.log import result, say, suggest

if TYPE_CHECKING:
    from vqvae.training.plan import TrainingPlan


def tell(trained: TrainedCodebook | TrainingPlan, depth: list[Path], json: bool) -> None:
    """Prints the codebook's quality, and the command that uses it, or how long it would take;
    nothing on other ranks."""
    if trained.rank > 0:
        return
    if not isinstance(trained, TrainedCodebook):
        say(*trained.lines(), json=json)
        if json:
            result({**vars(trained), "seconds": trained.seconds})
        return
    from vqvae.quality.gate import shortfalls

    out = trained.codebook
    lines = describe(out, trained.quality)
    if shortfalls(trained.quality):
        lines.append(
            "longer (--steps) or on more depth is better; train-vla refuses it as it is, unless "
            "--set force=true"
        )
    say(*lines, f"look: {trained.report}", json=json)
    suggest(after_codebook(depth[0], out, out.parent / "codes"), json=json)
    if json:
        book = {"codebook": str(out), "fingerprint": trained.fingerprint}
        result({**book, "quality": trained.quality})


def describe(path: Path, quality: dict) -> list[str]:
    """What a codebook is worth on the data that `quality` was measured on."""
    from vqvae.quality.gate import shortfalls

    failures = shortfalls(quality)
    use = "no codes (continuous latents)"
    if "codes" in quality:
        codes = quality["codes"]
        use = f"{codes['used']} of {codes['of']} codes used, perplexity {codes['perplexity']:.0f}"
    error = f"L1 {quality['disparity']['l1']:.4f} of the range"
    if "metres" in quality:
        error += f", AbsRel {quality['metres']['abs_rel']:.4f}"
    lines = [
        f"{path}: {use}, {error}, on "
        f"{quality['episodes']} {'held-out ' if quality['held_out'] else ''}"
        f"episode{'' if quality['episodes'] == 1 else 's'}"
    ]
    verdict = "below the quality gate: " + "; ".join(failures)
    return [*lines, verdict if failures else "passes the quality gate"]


COMMAND = Command(train_vqvae, tell)
