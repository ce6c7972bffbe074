"""The site: built as `make docs` does, with nothing broken, and nothing fetched from elsewhere."""

import re
import shlex
import subprocess
import sys

import pytest

from depthtok.cli.application import commands
from tests.browser import needed, site_faults
from tests.checked.checked_calls import unchecked
from tests.docs.pages import ROOT
from tools.docs_site import commands_markdown, indented_is_code, navigation

FETCHES = re.compile(
    r"""(?:\bsrc=|<link\b[^>]*\bhref=|@import\s+|\burl\(|\bimport\(|\bfetch\()"""
    r"""["']?((?:https?:)?//[^"')> ]+)"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built by the command of the Makefile."""
    command = re.search(
        r"^\t\$\(BIN\)/python (-m sphinx .*)$", (ROOT / "Makefile").read_text(), re.M
    )
    *options, target = shlex.split(command[1])
    assert (target, options[-2]) == ("site", "build/docs")
    folder = tmp_path_factory.mktemp("site")
    options[-2] = str(folder / "cache")
    done = subprocess.run(
        [sys.executable, *options, str(folder / "html")],
        cwd=ROOT,
        env=unchecked(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "html"


def test_pages_fetch_nothing_from_elsewhere(site):
    texts = [f for f in site.rglob("*") if f.suffix in (".html", ".css", ".js")]
    assert len(texts) > 40
    assert {str(f): FETCHES.findall(f.read_text("utf-8")) for f in texts} == {
        str(f): [] for f in texts
    }


def test_a_fetch_is_noticed():
    for line in (
        '<script src="https://example.org/x.js">',
        '<link rel="stylesheet" href="//example.org/x.css">',
        "@import 'https://example.org/x.css'",
        "src: url(https://example.org/x.woff)",
    ):
        assert len(FETCHES.findall(line)) == 1
    assert FETCHES.findall('<a href="https://example.org">') == []


@needed
def test_pages_open_on_a_telephone(site):
    pages = sorted(page for page in site.rglob("*.html") if page != site / "index.html")
    assert len(pages) > 40
    assert site_faults(site, pages) == {}


@needed
def test_a_fault_of_a_page_is_noticed(tmp_path):
    page, cells = tmp_path / "page.html", "<td>columnthatislong</td>" * 9
    page.write_text(
        "<!doctype html><article><div style='overflow: hidden'>"
        f"<table><tr>{cells}</tr></table></div>"
        "<div style='width: 500px'>x</div><img src='none.png' alt='p'></article>"
    )
    words = "\n".join(site_faults(tmp_path, [page])["page.html"])
    for part in ("px too wide", "does not load: p", "is cut off: <table"):
        assert part in words, words


def test_every_class_and_command_is_there(site):
    stores = (site / "docs/reference/stores.html").read_text()
    for member in (
        "EpisodeStore.episode",
        "CodeStore.grid_of",
        "DepthStore.clips",
        "Codebook.load",
    ):
        assert f"{member}" in stores
    page = (site / "docs/reference/commands.html").read_text()
    assert [name for name in commands() if f"depthtok {name}<" not in page] == []
    assert "--retry-failed" in page
    assert "docs/index.html" in (site / "index.html").read_text()


def test_headings_become_navigation():
    index = "# T\n\n## Start\n\n- [A b](a.md): words\n- [C](../d/e.md)\n\n## Empty\n\ntext\n"
    assert navigation(index) == (
        "```{toctree}\n:hidden:\n:caption: Start\n\nA b <a>\nC <../d/e>\n```\n"
    )


def test_the_reference_has_every_flag_with_its_default():
    text = commands_markdown()
    assert "| `--estimator` | `str` | vits |" in text
    assert "```bash\ndepthtok tokenize " in text


def test_indented_blocks_of_docstrings_are_code():
    lines = ["What it is:", "", "    a = [*b]", "    c", "", "Then more."]
    indented_is_code(None, "class", "x", None, None, lines)
    assert lines == ["What it is:", "", "::", "", "    a = [*b]", "    c", "", "", "Then more."]
