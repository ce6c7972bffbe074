"""What of a store, codebook or run is damaged, and what can be dropped to be made anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from depthtok.api.flags import SourceRoot
from depthtok.api.parameters import Positional

if TYPE_CHECKING:
    from depthtok.stores.verify import Finding


@dataclass(frozen=True)
class Verification:
    """What was found at `path`. `dropped` are the parts and files that were removed, which the
    command `stage` makes anew; `failures` says what the stages before it could not read. `parts`
    are all that a store is to have: those that are there, and those that it lacks; `source` is
    what it is made from, where that lacks parts, too."""

    path: Path
    findings: Sequence[Finding]
    dropped: Sequence[str] = ()
    stage: str = ""
    failures: str = ""
    parts: int = 0
    source: Path | None = None

    @property
    def missing(self) -> Sequence[str]:
        """The parts that a store lacks."""
        return [finding.lacks for finding in self.findings if finding.lacks]

    @property
    def damages(self) -> Sequence[Finding]:
        """The findings that are no mere notes."""
        return [finding for finding in self.findings if not finding.note]

    @property
    def mendable(self) -> Sequence[Finding]:
        """The damages that `repair` drops."""
        return [finding for finding in self.damages if finding.can_be_dropped]

    @property
    def sound(self) -> bool:
        """Whether nothing is damaged, or all of it was dropped."""
        damaged, mendable = len(self.damages), len(self.mendable)
        return damaged == mendable and (not damaged or bool(self.dropped))


def verify(
    path: Annotated[
        Path, Positional("PATH", "a store, codebook, run, evaluation, export or RLDS data set")
    ],
    repair: Annotated[bool, "drop damaged parts; the next run rebuilds them"] = False,
    images: Annotated[bool, "also check every image that an EpisodeStore indexes"] = False,
    source_root: SourceRoot = None,
) -> Verification:
    """Re-hash a store, codebook or run; name what is damaged.

    Exit code 1 if anything is. Do not use `--repair` while another machine's job writes there.

    Example: depthtok verify runs/codes --repair
    """
    from depthtok.copies.at_hand import at_hand
    from depthtok.stores.failures import in_words, left_out
    from depthtok.stores.lineage import unfinished_source
    from depthtok.stores.spec import is_store, read_spec
    from depthtok.stores.store import Store
    from depthtok.stores.verify import repair as drop

    path = at_hand(path)
    findings = _findings(path, images=images, source_root=source_root)
    verification = Verification(path, findings)
    if not verification.damages:
        failures = in_words(left_out(Store(path))) if is_store(path) else ""
        return replace(verification, failures=failures)
    if missing := verification.missing:
        store = Store(path)
        verification = replace(
            verification,
            stage=store.spec.stage,
            parts=len(store.part_names) + len(missing),
            source=unfinished_source(store),
        )
    if not (repair and verification.mendable):
        return verification
    dropped = drop(path, list(verification.mendable))
    return replace(verification, dropped=dropped, stage=read_spec(path).stage)


def _findings(path: Path, *, images: bool, source_root: Path | None) -> Sequence[Finding]:
    """What is not as it should be in whatever lies at `path`."""
    from depthtok.stores.verify import verify_rlds, verify_store
    from pipelines.export import record, soundness
    from pipelines.inspect.kinds import kind_of, not_known

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
    exported = record.record_of(path) if kind in ("rlds", "files") else None
    of_export = list(soundness.findings(path, exported)) if exported else []
    if kind == "rlds":
        return of_export + list(verify_rlds(path))
    if exported:
        return of_export
    raise not_known(path)
