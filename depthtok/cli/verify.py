"""verify: what is damaged, and what can be dropped to be made anew."""

from __future__ import annotations

from depthtok.api.verify import Verification, verify
from depthtok.cli.options import Command
from depthtok.log import result, say, suggest


def tell(verification: Verification, json: bool) -> int:
    """Prints what is damaged and what was dropped; exit code 1 if damage is left."""
    lines = [f"note: {finding.problem}" for finding in verification.findings if finding.note]
    lines += [finding.problem for finding in verification.damages if not finding.lacks]
    if not verification.damages:
        lines.append(f"{verification.path} is sound")
    lines += _unfinished(verification)
    if verification.failures:
        lines.append(f"note: {verification.failures}")
    if verification.dropped:
        again = f"run `depthtok {verification.stage}` again to rebuild them"
        lines.append(f"dropped: {', '.join(verification.dropped)}; {again}")
    say(*lines, json=json)
    if verification.mendable and not verification.dropped:
        suggest("the same command with --repair", json=json)
    if json:
        findings = [vars(finding) for finding in verification.findings]
        result({"findings": findings, "dropped": verification.dropped})
    return 0 if verification.sound else 1


def _unfinished(verification: Verification) -> list[str]:
    """How many parts a store lacks, and what makes them; [] where it lacks none."""
    if not (missing := verification.missing):
        return []
    lacking = f"{len(missing):,} of {verification.parts:,} parts (the first: {missing[0]})"
    source = verification.source
    first = f"finish {source}, which lacks parts, too; then " if source else ""
    return [
        f"{verification.path} lacks {lacking}",
        f"  fix: {first}run the command that made it (`depthtok {verification.stage}`) again, "
        "without --limit and for every --shard: it goes on where it stopped; or use what is there "
        "with --partial",
    ]


COMMAND = Command(verify, tell)
