"""The card of a repository: README.md, of what is recorded and nothing else.

What is not recorded is called unknown. Paths of the machine that pushes are not written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

from depthtok.format import human_number
from depthtok.json_values import JsonObject
from depthtok.log import plain
from pipelines.depth.vida.published import SHIPPED
from pipelines.push import licences
from pipelines.push.licences import UNKNOWN

Rows = Sequence[Sequence[object]]
FILE = "README.md"
_MARKDOWN = re.compile(r"([\\`*\[\]<>|])")
_PATH = re.compile(r"^(/|~|\.\.?/|[A-Za-z]:\\)")
_LONGEST = 300  # characters of one value


@dataclass(frozen=True)
class MadeFrom:
    """A data set that something is made from, and what estimated its depth (None: not known)."""

    name: str
    fingerprint: str
    weight: float | None
    estimator: JsonObject | None
    export_of: str = ""  # the data set of whose export depthtok made it; "" for none

    @property
    def licences(self) -> tuple[str, str]:
        """Those of the data set, and of the estimator's weights."""
        data_set = self.export_of or self.name
        return licences.of_data_set(data_set), licences.of_estimator(self.estimator)

    @property
    def row(self) -> Sequence[object]:
        """Of the card's table."""
        estimator = self.estimator or {}
        weights = str(estimator.get("weights") or "")
        share = None if self.weight is None else human_number(self.weight)
        named = estimator.get("name")
        data, ours = self.licences
        name = f"{self.name}, an export of {self.export_of}" if self.export_of else self.name
        return name, data, share, named, ours, weights[:16] or None, self.fingerprint[:16]


@dataclass(frozen=True)
class Card:
    """A card: title, what it is in a paragraph, notices that come first, tables, and sections of
    prose. `licence` are the front matter's entries of it."""

    title: str
    summary: str
    licence: Mapping[str, str]
    tags: Sequence[str]
    kind: str  # of the repository
    use: str  # commands, with {url} for where it lies
    sources: Sequence[MadeFrom]
    notices: Sequence[str] = ()
    tables: Mapping[str, Rows] = field(default_factory=dict)
    limits: Sequence[str] = ()

    def text(self, url: str) -> str:
        """README.md of the repository at `url`."""
        blocks = [self._front_matter(), f"# {_cell(self.title)}", self.summary]
        blocks += [f"> **{notice}**" for notice in self.notices]
        blocks += ["## Use", f"```bash\n{self.use.format(url=url)}\n```", "## Made from"]
        blocks += [_table(_HEADS, [source.row for source in self.sources])]
        for heading, rows in self.tables.items():
            blocks += [f"## {heading}", _table(("", ""), rows)]
        blocks += ["## Intended use and limits", "\n".join(f"- {line}" for line in self.limits)]
        blocks += [
            f"Written by `depthtok push` (depthtok {_version()}) from what is recorded with it; "
            "what is not recorded is called unknown."
        ]
        return "\n\n".join(blocks) + "\n"

    def _front_matter(self) -> str:
        entries: dict[str, object] = {**self.licence, "tags": ["depthtok", *self.tags]}
        if self.kind == "model":
            entries |= {"library_name": "depthtok", "pipeline_tag": "robotics"}
        else:
            entries |= {"task_categories": ["robotics"], "viewer": False}
        lines = [f"{name}: {json.dumps(value)}" for name, value in entries.items()]
        return "\n".join(["---", *lines, "---"])  # JSON values are YAML


_HEADS = (
    *("data set", "its licence", "weight", "depth estimator", "licence of its weights"),
    *("weights", "store"),
)


def notices(sources: Iterable[MadeFrom], *, demo: bool, failures: Sequence[str]) -> list[str]:
    """What whoever uses it must read first."""
    lines = []
    if demo:
        lines.append("Demo weights: they show the pipeline. Do not report results from them.")
    for source in sources:
        data, estimator = source.licences
        name = (source.estimator or {}).get("name")
        if (SHIPPED / f"{name}.safetensors").is_file():
            lines.append(
                f"Demo depth: that of {source.name} was estimated with {name}, which shows the "
                "pipeline."
            )
        if licences.is_non_commercial(estimator):
            lines.append(
                f"Not for commercial use: depth of {source.name} was estimated with {name}, whose "
                f"weights are licensed {estimator}."
            )
        if licences.is_non_commercial(data):
            lines.append(f"Not for commercial use: {source.name} is licensed {data}.")
    if failures:
        lines.append(f"Below depthtok's quality gate: {'; '.join(failures)}.")
    return [_line(line) for line in dict.fromkeys(lines)]


def unknown_estimators(sources: Iterable[MadeFrom]) -> list[str]:
    """What is open where nothing says what estimated the depth."""
    return [
        f"What estimated the depth of {_cell(source.name)} is not recorded: whether its licence "
        "binds this is unknown."
        for source in sources
        if source.estimator is None
    ]


def said_of(value: object) -> str:
    """A recorded value in words: a path of the machine by its last name alone."""
    if value is None or value == "":
        return UNKNOWN
    if isinstance(value, str):
        return value.rstrip("/").rpartition("/")[2] if _PATH.match(value) else value
    return human_number(value)


def _table(heads: Sequence[str], rows: Rows) -> str:
    if not rows:
        return UNKNOWN
    lines = [heads, ["---"] * len(heads), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    """A value in a table: no text of a data set can leave its cell."""
    return _MARKDOWN.sub(r"\\\1", _line(said_of(value)))


def _line(text: str) -> str:
    line = " ".join(plain(text).split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."


def _version() -> str:
    try:
        return version("depthtok")
    except PackageNotFoundError:
        return UNKNOWN
