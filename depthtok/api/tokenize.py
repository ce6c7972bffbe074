"""tokenize: depth to codes, or the codes that a data set brings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from depthtok.api.parameters import BySet, Flag, Only, Positional
from depthtok.api.stage_runs import SHARED, Out, carry_out, codebook_with_verdict
from depthtok.config import RunOptions
from depthtok.errors import ConfigError
from depthtok.log import warn
from pipelines.config import TokenizeConfig

if TYPE_CHECKING:
    from depthtok.stores.codebook import Codebook
    from pipelines.plan import Plan
    from pipelines.stage import Outcome


def tokenize(
    depth: Annotated[
        Path, Positional("DEPTH", "a DepthStore; or the EpisodeStore of an export with codes")
    ],
    codebook: Annotated[Path, "directory of a codebook"],
    out: Out,
    settings: TokenizeConfig,
    options: Annotated[
        RunOptions,
        Only(*SHARED, "partial", "device", "gpus_per_worker", "source_root"),
        BySet("cpus_per_worker", "gpus_per_worker"),
    ],
    verify_sample: Annotated[int, Flag("then re-encode this many clips and compare", least=0)] = 0,
) -> Outcome | Plan:
    """Encode depth as grids of codes: DepthStore -> CodeStore.

    Of the episodes of a data set that `depthtok export --codes` wrote, the codes in it are taken as
    they are; --codebook is the one that made them, and any other is refused.

    Example: depthtok tokenize runs/depth --codebook runs/codebook --out runs/codes
    """
    from depthtok.stores.codes import CodeStore
    from depthtok.stores.depth import DepthStore
    from depthtok.stores.lineage import outdated
    from depthtok.stores.spec import read_spec
    from pipelines.device import choose, choose_for
    from pipelines.plan import Plan
    from pipelines.tokenize import TokenizeStage
    from pipelines.verify_codes import verify_sample as verify

    if read_spec(depth).type == "episodes":
        book, _ = codebook_with_verdict(codebook)
        return _brought(depth, book, out, settings, options, verify_sample)
    if options.source_root:
        raise ConfigError(
            f"--source-root is for episodes, {depth} are none", remedy="leave --source-root out"
        )
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


def _brought(
    episodes: Path,
    book: Codebook,
    out: Path,
    settings: TokenizeConfig,
    options: RunOptions,
    verify_sample: int,
) -> Outcome | Plan:
    """The codes in the data set of these episodes."""
    from depthtok.stores.episodes import EpisodeStore
    from pipelines.own_codes.stage import OwnCodesStage

    for flag, value in (("--sticky", settings.sticky), ("--verify-sample", verify_sample)):
        if value:
            raise ConfigError(
                f"{episodes} are episodes, whose codes are in their data set: nothing is encoded",
                remedy=f"leave {flag} out, or give a DepthStore",
            )
    store = EpisodeStore(episodes, source_root=options.source_root)
    camera, partial = settings.camera, options.partial
    return carry_out(OwnCodesStage(store, book, out, camera, partial=partial), options)
