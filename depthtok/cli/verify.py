"""verify: what is damaged, and what can be dropped to be made anew."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depthtok.cli.flags import Json, SourceRoot
from depthtok.cli.options import command
from depthtok.log import result, say

if TYPE_CHECKING:
    from depthtok.stores.verify import Finding


def register(app: typer.Typer) -> None:
    """Adds the command of this file."""
    command(app)(verify)


def verify(
    path: Annotated[
        Path, typer.Argument(help="a store, codebook, run, evaluation or RLDS data set")
    ],
    repair: Annotated[
        bool, typer.Option("--repair", help="drop damaged parts; the next run rebuilds them")
    ] = False,
    images: Annotated[
        bool, typer.Option("--images", help="also check every image that an EpisodeStore indexes")
    ] = False,
    source_root: SourceRoot = None,
    json: Json = False,
) -> None:
    """Re-hash a store, codebook or run; name what is damaged.

    Exit code 1 if anything is. Do not use `--repair` while another machine's job writes there.

    Example: depthtok verify runs/codes --repair
    """
    from depthtok.stores.failures import in_words, left_out
    from depthtok.stores.store import Store, is_store, read_spec
    from depthtok.stores.verify import repair as drop

    findings = _findings(path, images=images, source_root=source_root)
    bad = [finding for finding in findings if not finding.note]
    lines = [f"note: {finding.problem}" for finding in findings if finding.note]
    lines += [finding.problem for finding in bad] or [f"{path} is sound"]
    if not bad and is_store(path) and (failed := in_words(left_out(Store(path)))):
        lines.append(f"note: {failed}")
    mendable = [finding for finding in bad if finding.can_be_dropped]
    dropped = drop(path, mendable) if mendable and repair else []
    if dropped:
        stage = read_spec(path).stage
        lines.append(f"dropped: {', '.join(dropped)}; run `depthtok {stage}` again to rebuild them")
    elif mendable:
        lines.append("next: the same command with --repair")
    say(*lines, json=json)
    if json:
        told = [vars(finding) for finding in findings]
        result({"findings": told, "dropped": dropped})
    if len(bad) > len(mendable) or (bad and not repair):
        raise typer.Exit(1)


def _findings(path: Path, *, images: bool, source_root: Path | None) -> list[Finding]:
    """What is not as it should be in whatever lies at `path`."""
    from depthtok.stores.verify import verify_rlds, verify_store
    from pipelines.inspect.summary import kind_of, not_known

    kind = "run" if (path / "state.json").is_file() else kind_of(path)  # or one checkpoint of it
    if kind == "store":
        return list(verify_store(path, images=images, source_root=source_root))
    if kind == "codebook":
        from depthtok.stores.codebook import Codebook
        from vqvae.quality.examples import Examples

        Codebook.load(path)
        Examples.load(path)
        return []
    if kind == "run":
        from vla.training.soundness import findings

        return list(findings(path))
    if kind == "evaluation":
        from pipelines.evaluate.trials import Evaluation

        _ = Evaluation.open(path).outcomes  # raises for a trial that cannot be read
        return []
    if kind == "rlds":
        return list(verify_rlds(path))
    raise not_known(path)
