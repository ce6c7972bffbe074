"""export: what the data set holds, in words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from depthtok.api.export import export
from depthtok.cli.options import Command
from depthtok.format import human_bytes, human_count
from depthtok.log import result, say, suggest, typed, warn

if TYPE_CHECKING:
    from pipelines.export.work import Exported

SHOWN_FAILURES = 5


def tell(exported: Exported, out: Path, *, json: bool) -> int:
    """Episodes, files, what was copied, what failed."""
    lines = [
        f"{out}: {exported.format}, {human_count(exported.episodes)} episodes, "
        f"{human_count(exported.frames)} frames, {exported.files} files, "
        f"{human_bytes(exported.bytes)}" + ("" if exported.made else "; it was there")
    ]
    for camera, count in exported.copied.items():
        lines.append(f"{camera}: packets of {count} of {exported.episodes} videos are copied")
    for failure in exported.failures[:SHOWN_FAILURES]:
        lines.append(f"failed: {failure.key}: {failure.reason}")
    if len(exported.failures) > SHOWN_FAILURES:
        lines.append(f"failed: {len(exported.failures) - SHOWN_FAILURES} more")
    say(*lines, json=json)
    for camera, count in exported.beyond.items():
        if count:
            warn(
                f"{camera}: {count:,} pixels of depth are at or beyond the ends of the depth "
                "video's range, and are no measurement there: see --set depth_max"
            )
    if exported.comes_back:
        suggest(typed("convert", out, "--schema", out / "schema.toml", "--out", "DIR"), json=json)
    if json:
        result(exported)
    return exported.exit_code


COMMAND = Command(export, tell)
