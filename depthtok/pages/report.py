"""A report: sections added one by one, then written as a self-contained HTML page and as JSON."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image

from depthtok.disk.files import write_atomic
from depthtok.format import human_number
from depthtok.pages.plots import (
    ForestRow,
    Line,
    colour,
    dash,
    draw_curves,
    draw_forest,
    draw_histogram,
)

HALF = {"facts", "curves", "histogram"}  # shown two side by side


@dataclass(frozen=True)
class Picture:
    """An image and its caption, which is also its alt text."""

    pixels: UInt8[np.ndarray, "H W 3"] | UInt8[np.ndarray, "H W"]
    caption: str

    def data_uri(self) -> str:
        """The pixels as a PNG in a data URI."""
        png = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(self.pixels)).save(png, "png")
        return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()


class Report:
    """A page that explains a result. Each method adds a section and returns the report.

    The files depend only on the arguments: equal reports give equal bytes.
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title, self.subtitle = title, subtitle
        self._numbers: dict[str, Any] = {}
        self._sections: list[dict[str, Any]] = []

    def numbers(self, figures: Mapping[str, Any]) -> Report:
        """The most important figures, at the top of the page and of the JSON.

        Lists and tables among them are only in the JSON.
        """
        self._numbers |= plain(figures)
        return self

    def text(self, *paragraphs: str, title: str = "") -> Report:
        """Paragraphs of plain text; text in backticks is shown as code."""
        return self._add("text", title, paragraphs=list(paragraphs))

    def links(self, title: str, pages: Mapping[str, Path], directory: Path) -> Report:
        """Links to other pages by name, relative to the `directory` of this one."""
        relative = {name: os.path.relpath(page, directory) for name, page in pages.items()}
        return self._add("links", title, pages=relative)

    def facts(self, title: str, facts: Mapping[str, Any]) -> Report:
        """A list of names and values."""
        return self._add("facts", title, facts=plain(facts))

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Report:
        """A table of text and numbers; None is an empty cell."""
        cells = plain(list(rows))
        assert all(len(row) == len(columns) for row in cells), f"{title}: a row of another length"
        return self._add("table", title, columns=list(columns), rows=cells)

    def curves(
        self, title: str, series: Mapping[str, Line], x_label: str, y_label: str, log: bool = False
    ) -> Report:
        """Lines by name, each (x, y); `log` applies to the y axis."""
        lines = {name: {"x": plain(x), "y": plain(y)} for name, (x, y) in series.items()}
        return self._add("curves", title, x_label=x_label, y_label=y_label, log=log, series=lines)

    def histogram(
        self, title: str, values: Any, bins: int | Sequence[float] = 40, x_label: str = ""
    ) -> Report:
        """A histogram of `values`; those that are not finite are counted separately."""
        values = np.asarray(values, float).ravel()
        finite = values[np.isfinite(values)]
        counts, edges = np.histogram(finite, bins)
        left_out = len(values) - len(finite)
        spread = {"edges": plain(edges), "counts": plain(counts), "not_finite": left_out}
        return self._add("histogram", title, x_label=x_label, **spread)

    def forest(self, title: str, rows: Iterable[ForestRow], x_label: str) -> Report:
        """Estimates by label with their intervals (None: not known), beside a line at 0."""
        return self._add("forest", title, x_label=x_label, rows=plain(list(rows)))

    def pictures(self, title: str, pictures: Iterable[Picture], columns: int = 4) -> Report:
        """A grid of images, `columns` wide if the window has room."""
        return self._add("pictures", title, pictures=list(pictures), columns=columns)

    def write(self, directory: Path, name: str = "report") -> Path:
        """Write `name`.html and `name`.json, each atomically; returns the page's path."""
        directory = Path(directory)
        page = directory / f"{name}.html"
        write_atomic(directory / f"{name}.json", json.dumps(self.to_json(), indent=1) + "\n")
        html = self.html(f"{name}.json").encode(
            "utf-8", "backslashreplace"
        )  # a path may be no text
        write_atomic(page, html)
        return page

    def to_json(self) -> dict[str, Any]:
        """Everything on the page except pixels, as plain values; non-finite numbers become None."""
        sections = [
            {k: [p.caption for p in v] if k == "pictures" else v for k, v in section.items()}
            for section in self._sections
        ]
        return {
            "title": self.title,
            "subtitle": self.subtitle,
            "numbers": self._numbers,
            "sections": sections,
        }

    def html(self, data: str) -> str:
        """The page's HTML; `data` is the name of the JSON file next to it."""
        environment = Environment(
            autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        environment.filters["number"] = _cell_text
        environment.filters["prose"] = _prose
        template = files("depthtok.pages").joinpath("template.html").read_text(encoding="utf-8")
        tiles = {k: v for k, v in self._numbers.items() if not isinstance(v, list | dict)}
        return environment.from_string(template).render(
            title=self.title,
            subtitle=self.subtitle,
            tiles=tiles,
            sections=self._sections_with_drawings(),
            data=data,
            colour=colour,
            dash=dash,
        )

    def _add(self, kind: str, title: str, **content: Any) -> Report:
        self._sections.append({"kind": kind, "title": title, **content})
        return self

    def _sections_with_drawings(self) -> list[dict[str, Any]]:
        """The sections with their drawings; the last of an odd run of half-width ones gets wide."""
        are_half = [section["kind"] in HALF for section in self._sections]
        wide, run = [], 0
        for is_half, following in zip(are_half, [*are_half[1:], False], strict=False):
            run = run + 1 if is_half else 0
            wide.append(not is_half or (run % 2 == 1 and not following))
        return [
            section | {"wide": is_wide} | _template_values(section, is_wide)
            for section, is_wide in zip(self._sections, wide, strict=True)
        ]


def _template_values(section: Mapping[str, Any], wide: bool) -> dict[str, Any]:
    """What the template needs beside a section's content: its drawing, or which columns of a
    table are numeric."""
    kind, title = section["kind"], section["title"]
    if kind == "curves":
        lines = {name: (_floats(s["x"]), _floats(s["y"])) for name, s in section["series"].items()}
        labels = section["x_label"], section["y_label"]
        return {"drawing": draw_curves(title, lines, *labels, section["log"], wide)}
    if kind == "histogram":
        edges, counts = np.asarray(section["edges"]), np.asarray(section["counts"])
        return {"drawing": draw_histogram(title, counts, edges, section["x_label"], wide)}
    if kind == "forest":
        rows = [tuple(row) for row in section["rows"]]
        return {"drawing": draw_forest(title, rows, section["x_label"], wide)}
    if kind == "table":
        width, rows = len(section["columns"]), section["rows"]
        return {"numeric": [all(_is_number(row[i]) for row in rows) for i in range(width)]}
    return {}


def _is_number(cell: Any) -> bool:
    return cell is None or (isinstance(cell, int | float) and not isinstance(cell, bool))


def plain(value: Any) -> Any:
    """Any result as JSON values: arrays as lists, paths and enums as text, nan and inf as None."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | range):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _floats(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]


def _prose(text: str) -> Markup:
    """Escaped text, with text in backticks as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _cell_text(value: Any) -> str:
    if value is None:
        return "\u2013"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_cell_text(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {_cell_text(item)}" for key, item in value.items())
    return human_number(value)
