"""Links between pages, both ways: a page links to those that it is about, and they to it.

The links of a page are one line each between two marks, so that a page that is written later can
add its own to those that are there.
"""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from markupsafe import Markup, escape

from depthtok.disk.files import write_atomic

BEGIN, END = "<!-- related pages -->", "<!-- end of related pages -->"
HEAD = 4096  # bytes in which a page says its title
_BLOCK = re.compile(re.escape(BEGIN) + "(.*?)" + re.escape(END), re.DOTALL)
_LINK = re.compile(r'<li><a rel="(?P<rel>\w+)" href="(?P<href>[^"]*)">(?P<title>.*?)</a></li>')
_TITLE = re.compile(r'<meta name="generator" content="depthtok">\s*<title>(.*?)</title>', re.DOTALL)
TO, FROM = "related", "prev"  # what a page links to; what links to it


@dataclass(frozen=True)
class PageLink:
    """A link to another page: `rel` says which of the two began it."""

    rel: str
    page: Path
    title: str

    def html(self, folder: Path) -> Markup:
        """One item of a list, for a page in this folder."""
        href = quote(Path(os.path.relpath(self.page, folder)).as_posix())
        item = '<li><a rel="{}" href="{}">{}</a></li>'
        return Markup(item).format(self.rel, escape(href), self.title)


def title_of(page: Path) -> str | None:
    """The title of a page of depthtok; None for anything else, and where there is none."""
    if not page.is_file():
        return None
    with page.open("rb") as file:
        match = _TITLE.search(file.read(HEAD).decode("utf-8", "replace"))
    return html.unescape(match[1]) if match else None


def links_of(page: Path) -> list[PageLink]:
    """The links in a page, to pages that are still there; none where there is no page."""
    if title_of(page) is None:
        return []
    block = _BLOCK.search(page.read_text("utf-8", "replace"))
    links = []
    for match in _LINK.finditer(block[1] if block else ""):
        target = page.parent / unquote(html.unescape(match["href"]))
        if (title := title_of(target)) is not None:
            links.append(PageLink(match["rel"], target, title))
    return links


def related_links(page: Path, about: Iterable[Path]) -> list[PageLink]:
    """What a page that is written now links to: the pages that it is about, as far as they are
    there, and those that linked to it before."""
    links = {
        _same(target): PageLink(TO, target, title)
        for target in about
        if (title := title_of(target)) is not None and _same(target) != _same(page)
    }
    for link in links_of(page):
        if link.rel == FROM:
            links.setdefault(_same(link.page), link)
    return list(links.values())


def link_back(page: Path, about: Iterable[Path]) -> None:
    """Adds links to `page` to the pages that it is about."""
    title = title_of(page)
    for target in about:
        if title is None or title_of(target) is None or _same(target) == _same(page):
            continue
        links = links_of(target)
        if any(_same(link.page) == _same(page) for link in links):
            continue
        text = target.read_text("utf-8", "replace")
        block = block_of([*links, PageLink(FROM, page, title)], target.parent)
        old = _BLOCK.search(text)
        changed = text if old is None else text[: old.start()] + str(block) + text[old.end() :]
        if changed != text:
            write_atomic(target, changed.encode("utf-8", "backslashreplace"))


def block_of(links: Iterable[PageLink], folder: Path) -> Markup:
    """The links of a page in this folder, as HTML with the marks; sorted, so that it does not
    matter which page was written first."""
    items = sorted(links, key=lambda link: os.path.relpath(link.page, folder))
    body = "".join(f"{link.html(folder)}\n" for link in items)
    listed = f'<nav aria-label="Related pages"><ul>\n{body}</ul></nav>\n' if items else ""
    return Markup(f"{BEGIN}\n{listed}{END}")


def _same(page: Path) -> Path:
    return page.resolve()
