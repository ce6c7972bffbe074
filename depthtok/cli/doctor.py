"""doctor: what is installed, what is missing, and how to get it."""

from __future__ import annotations

from depthtok.api.doctor import Examination, doctor
from depthtok.cli.options import Command
from depthtok.log import result, say


def tell(examination: Examination, json: bool) -> int:
    """Prints the rows; exit code 1 if depthtok cannot work here."""
    from depthtok.installation import render

    if json:
        result({"good": examination.good, "rows": [vars(row) for row in examination.rows]})
    else:
        say(render(examination.rows))
    return 0 if examination.good else 1


COMMAND = Command(doctor, tell)
