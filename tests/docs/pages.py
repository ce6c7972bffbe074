"""The pages for people, as markdown: their blocks, links and headings."""

import re
import shlex
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *ROOT.glob("benchmarks/*.md"),
        *ROOT.glob("examples/**/*.md"),
        ROOT / "depthtok" / "sample" / "libero_sample" / "README.md",
    ]
)
SHELL = ("bash", "sh", "console", "")


def name(page: Path) -> str:
    """A page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


@cache
def tokens(page: Path) -> list[Token]:
    """The page as markdown-it reads it."""
    return MarkdownIt("commonmark").enable("table").parse(page.read_text())


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: str
    line: int  # from 1
    language: str
    needs: frozenset[str]  # what its fence says it needs: ```bash needs=gpu,weights
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """The words of every command of depthtok in it, without the first."""
        lines = self.text.replace("\\\n", " ").splitlines()
        lines = [line.strip().removeprefix("$ ").removeprefix("exec ") for line in lines]
        words = [shlex.split(line, comments=True) for line in lines if "depthtok " in line]
        return [line[1:] for line in words if line[:1] == ["depthtok"]]


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    fences = []
    for token in tokens(page):
        if token.type != "fence":
            continue
        language, _, rest = token.info.partition(" ")
        needs = re.fullmatch(r"needs=([\w,]+)", rest.strip())
        words = frozenset(needs[1].split(",")) if needs else frozenset()
        fences.append(Block(name(page), token.map[0] + 1, language, words, token.content))
    return fences


def shell_blocks(page: Path) -> list[Block]:
    """The blocks of a page that are typed into a shell, as far as they call depthtok or say so."""
    shell = [block for block in blocks(page) if block.language in SHELL]
    return [block for block in shell if block.language or block.commands]


def links(page: Path) -> list[str]:
    """Where the page's links and pictures lead."""
    inline = [child for token in tokens(page) for child in token.children or ()]
    targets = [token.attrGet("href") or token.attrGet("src") for token in inline]
    return [str(target) for target in targets if target]


@cache
def anchors(page: Path) -> frozenset[str]:
    """What a link to a heading of the page may say after its #, as GitHub makes it."""
    slugs: Counter[str] = Counter()
    names = []
    stream = tokens(page)
    for number, token in enumerate(stream):
        if token.type == "heading_open":
            children = stream[number + 1].children or ()
            heading = "".join(
                child.content for child in children if child.type in ("text", "code_inline")
            )
            slug = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
            names.append(f"{slug}-{slugs[slug]}" if slugs[slug] else slug)
            slugs[slug] += 1
    return frozenset(names)


def dead_links(page: Path) -> list[str]:
    """The page's links to files that are not there, or to headings that their page has not."""
    dead = []
    for link in links(page):
        if link.startswith(("http:", "https:", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (
            anchor and target.suffix == ".md" and anchor not in anchors(target)
        ):
            dead.append(link)
    return dead
