"""copy: what went where, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from depthtok.api.copy import copy
from depthtok.cli.options import Command
from depthtok.format import human_bytes
from depthtok.log import result, say, suggest, typed

if TYPE_CHECKING:
    from depthtok.copies.copying import Copied


def tell(copied: Copied, json: bool) -> int:
    """Parts and bytes."""
    done = f"{copied.parts - copied.kept} parts copied ({human_bytes(copied.bytes)})"
    lines = [f"{copied.target}: {done}, {copied.kept} were there"]
    if copied.missing:
        lines.append(f"note: the store lacks {copied.missing} of its parts, and so does the copy")
    if copied.verified:
        lines.append(f"{copied.verified} parts read again: every byte is as it should be")
    say(*lines, json=json)
    if not copied.verified:
        suggest(typed("copy", copied.source, copied.target, "--then-verify"), json=json)
    if json:
        result(copied)
    return 0


COMMAND = Command(copy, tell)
