"""report: images and curves of anything that depthtok wrote, as one HTML page."""

from __future__ import annotations

from depthtok.api.report import WrittenReport, report
from depthtok.cli.options import Command
from depthtok.log import say


def tell(written: WrittenReport) -> None:
    """Prints where the page is."""
    say(f"{written.page}: open it in a browser; the same numbers are in {written.data}")


COMMAND = Command(report, tell)
