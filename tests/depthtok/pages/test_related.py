"""Links between pages lead to and fro, whichever page was written first."""

import re

import pytest

from depthtok.pages.related import links_of, title_of
from depthtok.pages.report import Report


def write(folder, title, *about):
    return Report(title).related(about).write(folder)


def hrefs(page) -> list[str]:
    nav = re.search("<nav.*?</nav>", page.read_text(), re.DOTALL)
    return re.findall('href="(.*?)">(.*?)<', nav[0]) if nav else []


def test_pages_link_to_each_other(tmp_path):
    episodes = write(tmp_path / "a b" / "episodes", "Episodes & <more>")
    codes = write(tmp_path / "codes", "Codes", tmp_path / "a b" / "episodes")
    assert hrefs(codes) == [("../a%20b/episodes/report.html", "Episodes &amp; &lt;more&gt;")]
    assert hrefs(episodes) == [("../../codes/report.html", "Codes")]
    assert "<h1>Episodes &amp; &lt;more&gt;</h1>" in episodes.read_text()  # escaped once
    assert title_of(episodes) == "Episodes & <more>"


def test_a_page_that_is_written_again_keeps_the_links_to_it(tmp_path):
    write(tmp_path / "a", "A")
    write(tmp_path / "b", "B", tmp_path / "a")
    before = (tmp_path / "a" / "report.html").read_bytes()
    assert write(tmp_path / "a", "A").read_bytes() == before
    (tmp_path / "b" / "report.html").unlink()
    assert hrefs(write(tmp_path / "a", "A")) == []


def test_the_order_does_not_matter(tmp_path):
    pages = {}
    for folder, order in ((tmp_path / "x", "abc"), (tmp_path / "y", "abcab")):
        about = {"a": [], "b": [folder / "a"], "c": [folder / "a", folder / "b"]}
        for name in order:
            write(folder / name, name, *about[name])
        pages[folder] = [(folder / n / "report.html").read_bytes() for n in "abc"]
    assert pages[tmp_path / "x"] == pages[tmp_path / "y"]


@pytest.mark.parametrize("text", ["", "<html><title>Other</title>", "\udcff"])
def test_pages_of_others_are_left_alone(tmp_path, text):
    other = tmp_path / "other" / "report.html"
    other.parent.mkdir()
    other.write_bytes(text.encode("utf-8", "surrogateescape"))
    page = write(tmp_path / "a", "A", tmp_path / "other", tmp_path / "missing", tmp_path / "a")
    assert hrefs(page) == []
    assert links_of(other) == []
    assert other.read_bytes() == text.encode("utf-8", "surrogateescape")
