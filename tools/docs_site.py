"""What the site (`make docs`, docs/conf.py) has beside its pages, as an extension of Sphinx.

The bullets of docs/index.md are the navigation: each heading a caption, each link below it a page.
`{commands}` is replaced by all commands with their arguments, as their functions say. Docstrings
are plain text with backticks: indented blocks become code.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[1]
INDEX = "docs/index"
ASIDE = ("depthtok/sample/", "tests/data/", "examples/own_")
"""Pages that are linked from others, and are in no table of contents."""
LINK = re.compile(r"^- \[([^\]]+)\]\(([^)#]+)\.md\)", re.MULTILINE)
EXAMPLE = re.compile(r"^Example: (depthtok .*(?:\n.+)*)", re.MULTILINE)
REDIRECT = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>depthtok</title>
<meta http-equiv="refresh" content="0; url=docs/index.html">
<a href="docs/index.html">depthtok</a></html>
"""


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("source-read", add_navigation)
    app.connect("autodoc-process-docstring", indented_is_code)
    app.connect("build-finished", add_redirect)
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def add_navigation(app: Sphinx, page: str, source: list[str]) -> None:
    """Appends the tables of contents to the index page, one for each of its sections. Sphinx warns
    of a page that is in none, unless it is one of those aside."""
    if page.startswith(ASIDE):
        source[0] = "---\norphan: true\n---\n" + source[0]
    if page == INDEX:
        source[0] += "\n" + navigation(source[0])


def navigation(index: str) -> str:
    """Hidden tables of contents: the links of each section of the page, under its heading."""
    tables = []
    for section in re.split(r"^## ", index, flags=re.MULTILINE)[1:]:
        caption, _, body = section.partition("\n")
        pages = [f"{title} <{path}>" for title, path in LINK.findall(body)]
        if pages:
            lines = ["```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```"]
            tables.append("\n".join(lines))
    return "\n\n".join(tables) + "\n"


def indented_is_code(
    app: Sphinx, what: str, name: str, item: Any, options: Any, lines: list[str]
) -> None:
    """Has indented blocks of a docstring shown as they stand; `[0, 1]` and * are no markup."""
    text: list[str] = []
    inside = False
    for number, line in enumerate(lines):
        starts = line.startswith("    ") and (number == 0 or not lines[number - 1].strip())
        if starts and not inside:
            text += ["::", ""]
        inside = (inside or starts) and (not line.strip() or line.startswith("    "))
        if number and not inside and line.strip() and not lines[number - 1].strip():
            text.append("")
        text.append(line)
    lines[:] = text


def add_redirect(app: Sphinx, error: Exception | None) -> None:
    """Makes the site's root lead to its first page."""
    if error is None and app.builder.name == "html":
        (Path(app.outdir) / "index.html").write_text(REDIRECT)


class Commands(SphinxDirective):
    """All commands of the application."""

    def run(self) -> list[Any]:
        """The nodes of the generated markdown."""
        return self.parse_text_to_nodes(commands_markdown(), allow_section_headings=True)


def commands_markdown() -> str:
    """Every command: what it does, and a table of its arguments in Python and on the command
    line."""
    from depthtok.api.interface import read
    from depthtok.api.names import COMMANDS
    from depthtok.cli.application import commands

    names = {file: name for name, file in COMMANDS.items()}
    text = []
    for name, command in commands().items():
        function = names[command.function.__module__.rpartition(".")[2]]
        doc = inspect.getdoc(command.function) or ""
        doc = EXAMPLE.sub(lambda line: f"```bash\n{' '.join(line[1].split())}\n```", doc)
        rows = [row(parameter) for parameter in read(command.function).parameters]
        table = [
            "| argument | type | default | what it is |",
            "|---|---|---|---|",
            *filter(None, rows),
        ]
        title = f"## depthtok {name}"
        text += [title, f"`depthtok.{function}(...)`", doc, "\n".join(table)]
    return "\n\n".join(text) + "\n"


def row(parameter: Any) -> str:
    """A parameter's row; "" for one that is no flag."""
    from depthtok.api.parameters import default_text

    if not parameter.shown or parameter.successor:
        return ""
    written = (
        f"`{parameter.flag}`" if parameter.flag else f"`{parameter.metavar or parameter.name}`"
    )
    cells = [written, type_text(parameter.kind), default_text(parameter.default), parameter.help]
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def type_text(kind: Any) -> str:
    """A type as Python writes it, without modules."""
    text = kind.__name__ if isinstance(kind, type) and not hasattr(kind, "__args__") else str(kind)
    return f"`{re.sub(r'[a-z_]+[.]', '', text)}`"
