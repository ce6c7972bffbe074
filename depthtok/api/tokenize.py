"""tokenize: depth to codes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from depthtok.api.parameters import Flag, Positional
from depthtok.api.stage_runs import OnDevice, Out, carry_out, codebook_with_verdict
from depthtok.log import warn
from pipelines.config import TokenizeConfig

if TYPE_CHECKING:
    from pipelines.plan import Plan
    from pipelines.stage import Outcome


def tokenize(
    depth: Annotated[Path, Positional("DEPTH", "a DepthStore")],
    codebook: Annotated[Path, "directory of a codebook"],
    out: Out,
    settings: TokenizeConfig,
    options: OnDevice,
    verify_sample: Annotated[int, Flag("then re-encode this many clips and compare", least=0)] = 0,
) -> Outcome | Plan:
    """Encode depth as grids of codes: DepthStore -> CodeStore.

    Example: depthtok tokenize runs/depth --codebook runs/codebook --out runs/codes
    """
    from depthtok.stores.codes import CodeStore
    from depthtok.stores.depth import DepthStore
    from depthtok.stores.lineage import outdated
    from pipelines.device import choose, choose_for
    from pipelines.plan import Plan
    from pipelines.tokenize import TokenizeStage
    from pipelines.verify_codes import verify_sample as verify

    store = DepthStore(depth)
    for line in outdated(store):
        warn(line)
    book, verdict = codebook_with_verdict(codebook)
    if book.quality and book.quality["kind"] != store.kind:
        warn(
            f"{codebook} was evaluated on {book.quality['kind']}, this depth is {store.kind}: see "
            f"`depthtok eval-vqvae {codebook} {depth} --out DIR`"
        )
    device = choose_for(options)
    if verify_sample:
        choose(device)  # the sample is encoded here: refused before the work, and not after it
    stage = TokenizeStage(store, book, out, settings, device, verdict, partial=options.partial)
    done = carry_out(stage, options)
    if verify_sample and not isinstance(done, Plan):
        clips = verify(CodeStore(out), store, book, device, verify_sample)
        done.notes.append(f"{clips} clips re-encoded: every code is the same")
    return done
