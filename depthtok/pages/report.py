"""A report: sections added one by one, then written as a self-contained HTML page and as JSON."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from depthtok.disk.files import write_atomic
from depthtok.format import human_number
from depthtok.pages.film import Film
from depthtok.pages.pictures import FrameRow, Picture
from depthtok.pages.plots import ForestRow, Line, Panel, colour, dash
from depthtok.pages.related import block_of, link_back, related_links
from depthtok.pages.scale import ColourBar
from depthtok.pages.sections import Section, with_drawings

LIMIT = 1_950_000  # bytes of a page
SIDES = (384, 256, 160, 96)  # px, of pictures: the first with which the page is within the limit


class Report:
    """A page that explains a result. Each method adds a section and returns the report.

    The files depend only on the arguments, and on which related pages there are: equal reports give
    equal bytes. A section that is `folded` shows its title until somebody opens it; long tables,
    lists and rows of frames fold what is beyond a first part by themselves.
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title, self.subtitle = title, subtitle
        self._numbers: dict[str, Any] = {}
        self._sections: list[Section] = []
        self._related: list[Path] = []

    def numbers(self, figures: Mapping[str, Any]) -> Report:
        """The most important figures, at the top of the page and of the JSON.

        Lists and tables among them are only in the JSON.
        """
        self._numbers |= plain(figures)
        return self

    def related(self, folders: Iterable[Path]) -> Report:
        """Other results that this one is about, by their folders: where they have a page, the two
        pages link to each other once this one is written."""
        self._related += [Path(folder) / "report.html" for folder in folders]
        return self

    def text(self, *paragraphs: str, title: str = "", folded: bool = False) -> Report:
        """Paragraphs of plain text; text in backticks is shown as code."""
        return self._add("text", title, folded, paragraphs=list(paragraphs))

    def links(self, title: str, pages: Mapping[str, Path], directory: Path) -> Report:
        """Links to other pages by name, relative to the `directory` of this one."""
        relative = {name: os.path.relpath(page, directory) for name, page in pages.items()}
        return self._add("links", title, pages=relative)

    def facts(self, title: str, facts: Mapping[str, Any], *, folded: bool = False) -> Report:
        """A list of names and values."""
        return self._add("facts", title, folded, facts=plain(facts))

    def table(
        self,
        title: str,
        columns: Sequence[str],
        rows: Iterable[Sequence[Any]],
        *,
        folded: bool = False,
    ) -> Report:
        """A table of text and numbers; None is an empty cell."""
        cells = plain(list(rows))
        assert all(len(row) == len(columns) for row in cells), f"{title}: a row of another length"
        return self._add("table", title, folded, columns=list(columns), rows=cells)

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
        return self.counts(title, counts, edges, x_label, not_finite=len(values) - len(finite))

    def counts(
        self,
        title: str,
        counts: Shaped[np.ndarray, " bins"],
        edges: Shaped[np.ndarray, " edges"],
        x_label: str = "",
        y_label: str = "count",
        not_finite: int = 0,
    ) -> Report:
        """A histogram that is counted already: `counts` between `edges`."""
        spread = {"edges": plain(edges), "counts": plain(counts), "not_finite": not_finite}
        return self._add("histogram", title, x_label=x_label, y_label=y_label, **spread)

    def panels(
        self, title: str, panels: Iterable[Panel], note: str = "", *, folded: bool = False
    ) -> Report:
        """Small drawings side by side, one a column of the data."""
        return self._add("panels", title, folded, panels=list(panels), note=note)

    def forest(self, title: str, rows: Iterable[ForestRow], x_label: str) -> Report:
        """Estimates by label with their intervals (None: not known), beside a line at 0."""
        return self._add("forest", title, x_label=x_label, rows=plain(list(rows)))

    def pictures(
        self,
        title: str,
        pictures: Iterable[Picture],
        columns: int = 4,
        bars: Sequence[ColourBar] = (),
    ) -> Report:
        """A grid of images, `columns` wide if the window has room, and what their colours mean."""
        listed, shown = list(pictures), list(bars)
        return self._add("pictures", title, pictures=listed, columns=columns, bars=shown)

    def frames(
        self, title: str, rows: Iterable[FrameRow], *, shown: int = 4, folded: bool = False
    ) -> Report:
        """Frames one below another, each with its pictures side by side; all but the first `shown`
        are folded."""
        return self._add("frames", title, folded, rows=list(rows), shown=shown)

    def film(self, title: str, film: Film) -> Report:
        """Every step of an episode, under one slider."""
        return self._add("film", title, film=film)

    def write(self, directory: Path, name: str = "report") -> Path:
        """Write `name`.html and `name`.json, each atomically; returns the page's path."""
        directory = Path(directory)
        page = directory / f"{name}.html"
        write_atomic(directory / f"{name}.json", json.dumps(self.to_json(), indent=1) + "\n")
        links = block_of(related_links(page, self._related), directory)
        html = self.html(f"{name}.json", links).encode(
            "utf-8", "backslashreplace"
        )  # a path may be no text
        write_atomic(page, html)
        link_back(page, self._related)
        return page

    def to_json(self) -> dict[str, Any]:
        """Everything on the page except pixels, as plain values; non-finite numbers become None."""
        return {
            "title": self.title,
            "subtitle": self.subtitle,
            "numbers": self._numbers,
            "sections": [_without_pixels(section) for section in self._sections],
        }

    def html(self, data: str, links: Markup | None = None) -> str:
        """The page's HTML; `data` is the name of the JSON file next to it, `links` the block of
        links to related pages. Pictures are as large as the limit of a page allows."""
        environment = Environment(
            loader=PackageLoader("depthtok.pages", ""),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["number"] = _cell_text
        environment.filters["prose"] = _prose
        template = environment.get_template("template.html")
        values = {
            "title": self.title,
            "subtitle": self.subtitle,
            "tiles": {k: v for k, v in self._numbers.items() if not isinstance(v, list | dict)},
            "sections": with_drawings(self._sections),
            "links": block_of([], Path()) if links is None else links,
            "data": data,
            "colour": colour,
            "dash": dash,
        }
        for side in SIDES:
            text = template.render(values, side=side)
            if len(text) <= LIMIT:
                break
        return text

    def _add(self, kind: str, title: str, folded: bool = False, **content: Any) -> Report:
        self._sections.append({"kind": kind, "title": title, "folded": folded, **content})
        return self


def _without_pixels(section: Section) -> Section:
    """A section as plain values: of pictures their captions."""
    content = {key: value for key, value in section.items() if key != "folded"}
    bars = [bar.words for bar in content.pop("bars", ())]
    if bars:
        content["colours"] = bars
    if section["kind"] == "pictures":
        content["pictures"] = [picture.alternative for picture in section["pictures"]]
    elif section["kind"] == "frames":
        content["rows"] = [
            {
                "heading": row.heading,
                "pictures": [picture.alternative for picture in row.pictures],
                "colours": [bar.words for bar in row.bars],
            }
            for row in section["rows"]
        ]
    elif section["kind"] == "film":
        content["film"] = section["film"].to_json()
    elif section["kind"] == "panels":
        content["panels"] = [plain(vars(panel)) for panel in section["panels"]]
    return content


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
