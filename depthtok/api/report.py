"""Images and curves of anything that depthtok wrote, as one HTML page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from depthtok.api.flags import SourceRoot
from depthtok.api.parameters import Positional
from depthtok.required import require


@dataclass(frozen=True)
class WrittenReport:
    """The page, and the same numbers as JSON."""

    page: Path
    data: Path


def report(
    path: Annotated[Path, Positional("PATH", "a store, codebook, training run or evaluation")],
    out: Annotated[Path | None, "directory of the page; default: PATH"] = None,
    source_root: SourceRoot = None,
) -> WrittenReport:
    """Make an HTML page of anything that depthtok wrote.

    Example: depthtok report runs/depth
    """
    from depthtok.copies.at_hand import at_hand
    from depthtok.disk.files import require_writable
    from pipelines.inspect.pages import maker

    folder = at_hand(path)
    require(
        out is not None or folder == path, "out", out, f"say with --out where: {path} is fetched"
    )
    make = maker(folder, source_root)
    require_writable(out or path)
    page = make(folder).write(out or path)
    return WrittenReport(page, page.with_suffix(".json"))
