"""verify: what is damaged, and what can be dropped to be made anew."""

from __future__ import annotations

from depthtok.api.verify import Verification, verify
from depthtok.cli.options import Command
from depthtok.log import result, say, suggest


def tell(verification: Verification, json: bool) -> int:
    """Prints what is damaged and what was dropped; exit code 1 if damage is left."""
    lines = [f"note: {finding.problem}" for finding in verification.findings if finding.note]
    problems = [finding.problem for finding in verification.damages]
    lines += problems or [f"{verification.path} is sound"]
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


COMMAND = Command(verify, tell)
