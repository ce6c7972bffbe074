"""What the template needs beside the content of a section: drawings, and what of it is folded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from depthtok.pages.film import Film
from depthtok.pages.plots import draw_curves, draw_forest, draw_histogram, draw_panel

Section = dict[str, Any]
"""Its `kind` and `title`, whether it is `folded`, and the content of its kind."""
HALF = {"facts", "curves", "histogram"}  # shown two side by side
ROWS, FACTS, PICTURES = 12, 16, 12  # shown at once; the rest is folded
PANELS = 9
MOST_ROWS = 300  # on the page at all; the JSON has every one


def with_drawings(sections: Sequence[Section]) -> list[Section]:
    """The sections with their drawings; the last of an odd run of half-width ones gets wide."""
    are_half = [section["kind"] in HALF and not section["folded"] for section in sections]
    wide, run = [], 0
    for is_half, following in zip(are_half, [*are_half[1:], False], strict=False):
        run = run + 1 if is_half else 0
        wide.append(not is_half or (run % 2 == 1 and not following))
    return [
        {**section, "wide": is_wide, **_values(section, is_wide)}
        for section, is_wide in zip(sections, wide, strict=True)
    ]


def _values(section: Section, wide: bool) -> Section:
    """What is drawn, which columns of a table are numeric, and where a section is cut."""
    kind, title = section["kind"], section["title"]
    if kind == "curves":
        lines = {name: (_floats(s["x"]), _floats(s["y"])) for name, s in section["series"].items()}
        labels = section["x_label"], section["y_label"]
        return {"drawing": draw_curves(title, lines, *labels, section["log"], wide)}
    if kind == "histogram":
        edges, counts = np.asarray(section["edges"]), np.asarray(section["counts"])
        labels = section["x_label"], section["y_label"]
        return {"drawing": draw_histogram(title, counts, edges, *labels, wide)}
    if kind == "forest":
        rows = [tuple(row) for row in section["rows"]]
        return {"drawing": draw_forest(title, rows, section["x_label"], wide)}
    if kind == "panels":
        drawings = [draw_panel(title, panel) for panel in section["panels"]]
        return {"drawings": drawings, "shown": PANELS}
    if kind == "table":
        width, rows = len(section["columns"]), section["rows"]
        numeric = [all(_is_number(row[i]) for row in rows) for i in range(width)]
        return {"numeric": numeric, "shown": ROWS, "most": MOST_ROWS}
    if kind == "film":
        film: Film = section["film"]
        return {"sheets": film.sheets()}
    return {"shown": {"facts": FACTS, "pictures": PICTURES}.get(kind, section.get("shown"))}


def _is_number(cell: object) -> bool:
    return cell is None or (isinstance(cell, int | float) and not isinstance(cell, bool))


def _floats(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]
