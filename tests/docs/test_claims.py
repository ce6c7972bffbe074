"""What the README claims in figures has its row in docs/results.md, and the row's figure is found
where the row says."""

import re
from dataclasses import dataclass

import pytest

from tests.docs.pages import ROOT, tokens

README, RESULTS = ROOT / "README.md", ROOT / "docs" / "results.md"
HEADING = "What the README says"
NAMES = re.compile(
    r"Python 3\.11|arXiv 2510\.14836|LeRobot v3(\.0 and v2\.1)?|LeRobot 0\.6|Zarr v3|HDF5|DA3|"
    r"Depth Anything 3|MolmoAct2|package 0\.1\.8|November 2026|Apache-2\.0|CC-BY-NC-4\.0"
)
"""Names, versions and dates in the README: figures that claim nothing."""
FIGURE = re.compile(
    r"\S*\d\S*|\b(?:half|third|quarter|fifth|tenth|twice|times|hundred|thousand|million|"
    r"seconds?|minutes?|hours?)\b"
)


@dataclass(frozen=True)
class Claim:
    """A row: words of the README, and a figure that is found on a page of docs/."""

    words: str
    figure: str
    page: str


def plain(text: str) -> str:
    """Without marks of emphasis and code, with single spaces."""
    return " ".join(re.sub(r"[*`]", "", text).split())


def claims() -> list[Claim]:
    """The rows of the table."""
    section = RESULTS.read_text().partition(f"## {HEADING}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:1] == "|"]
    links = [re.search(r"\]\(([^)#]*)", row[2])[1] for row in rows[2:]]
    return [
        Claim(plain(words), plain(figure), link)
        for (words, figure, _), link in zip(rows[2:], links, strict=True)
    ]


def prose() -> str:
    """What the README says in sentences and tables, without code, links' targets and pictures."""
    inline = [token for token in tokens(README) if token.type == "inline"]
    children = [child for token in inline for child in [*(token.children or ()), None]]
    texts = [
        "\n" if c is None or c.type == "softbreak" else c.content
        for c in children
        if c is None or c.type in ("text", "softbreak")
    ]
    return plain(NAMES.sub("", plain("".join(texts))))


def unproved(text: str, proved: list[str]) -> list[str]:
    """The figures of a text that are not within words of a claim."""
    for words in proved:
        text = text.replace(words, "")
    return [match[0] for match in FIGURE.finditer(text)]


def test_every_figure_of_the_readme_has_a_row():
    assert unproved(prose(), [claim.words for claim in claims()]) == []


def test_a_figure_without_a_row_is_noticed():
    text = "It is 3 times as fast, in a tenth of the memory, and reads a frame in 5 us."
    assert unproved(text, ["a tenth of the memory"]) == ["3", "times", "5"]


@pytest.mark.parametrize("claim", claims(), ids=lambda claim: claim.words)
def test_a_row_is_of_the_readme_and_its_figure_is_where_it_says(claim):
    assert claim.words in plain(README.read_text())
    page = (RESULTS.parent / claim.page).resolve() if claim.page else RESULTS
    text = plain(page.read_text())
    assert text.count(claim.figure) > (page == RESULTS)  # there, the row itself has it, too
