"""inspect, verify, doctor: looking at what is there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depthtok.cli.flags import Json, SourceRoot
from depthtok.cli.options import command
from depthtok.log import result, say

if TYPE_CHECKING:
    from depthtok.doctor import Row
    from depthtok.stores.verify import Finding


def register(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    for function in (inspect, verify, doctor):
        command(app)(function)


def inspect(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="data sets, stores, codebooks, runs, evaluations"),
    ],
    draft: Annotated[
        bool, typer.Option("--draft", help="print a schema draft of RLDS data sets, as TOML")
    ] = False,
    json: Json = False,
) -> None:
    """Summarise data sets, stores, codebooks, runs, evaluations.

    An RLDS data set without a schema gets a draft of one; `--draft` prints that alone. For several
    EpisodeStores the statistics of their mixture come last.

    Example: depthtok inspect my_dataset/1.0.0
    """
    from depthtok.stores.episodes import EpisodeStore
    from depthtok.stores.lineage import open_store
    from depthtok.stores.store import is_store
    from pipelines.inspect.summary import inspect as look
    from pipelines.inspect.summary import inspect_mixture, schema_draft

    if draft:
        say(*(schema_draft(path) for path in paths))
        return
    found = [look(path) for path in paths]
    stores = [open_store(path) for path in paths if is_store(path)]
    mixed = [store for store in stores if isinstance(store, EpisodeStore)]
    if len(mixed) > 1:
        found.append(inspect_mixture(mixed))
    if json:
        result([vars(summary) for summary in found] if len(found) > 1 else vars(found[0]))
    else:
        say(*(line for summary in found for line in (*summary.lines(), "")))


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


def _estimators() -> list[Row]:
    """Every depth estimator: kind, licence, and where its weights are."""
    from depthtok.doctor import Row, State, hub_cache
    from pipelines.depth.vida.config import CONFIGS
    from pipelines.depth.vida.published import PUBLISHED, licence_of, shipped_or_cached

    rows = [Row("Estimators", "dataset", State.OK, "metres; the depth that a data set carries")]
    cache = hub_cache(os.environ)
    for name, config in CONFIGS.items():
        path = shipped_or_cached(name, cache)
        kind = "metres" if config.metric else "disparity"
        licence = f"{licence_of(name)}; " if path or name in PUBLISHED else ""
        get = "downloaded at first use, or --weights FILE"
        if name not in PUBLISHED:
            get = (
                f"not published; train it: depthtok finetune-vida --estimator {name} --from-scratch"
            )
        state, remedy = (State.OK, "") if path else (State.OPTIONAL, get)
        detail = f"{kind}; {licence}{path or 'no weights here'}"
        rows.append(Row("Estimators", name, state, detail, remedy))
    return rows


def doctor(json: Json = False) -> None:
    """Show what is installed, what is missing, and how to get it."""
    from depthtok.doctor import examine, render, verdict

    rows = [*examine(), *_estimators()]
    good, _ = verdict(rows)
    if json:
        result({"good": good, "rows": [vars(row) for row in rows]})
    else:
        say(render(rows))
    if not good:
        raise typer.Exit(1)
