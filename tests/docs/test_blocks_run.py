"""Blocks of shell that do not say what they need are typed, in order, in a copy of the clone."""

import json
from collections import defaultdict

import pytest

from depthtok.stores.codes import CodeStore
from tests.commands.trainings import call
from tests.docs.pages import PAGES, ROOT, blocks, shell_blocks

FREE = defaultdict(list)  # the blocks of each page that need nothing
for page in PAGES:
    for block in shell_blocks(page):
        if not block.needs:
            FREE[block.page].append(block)


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A folder that has what a clone has."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("depthtok", "vqvae", "docs"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def test_the_first_page_needs_nothing():
    assert "docs/start.md" in FREE


@pytest.mark.parametrize("page", FREE)
def test_blocks_that_need_nothing_run(clone, monkeypatch, page):
    monkeypatch.chdir(clone)
    for block in FREE[page]:
        lines = [line for line in block.text.splitlines() if line and not line.startswith("#")]
        assert len(block.commands) == len(lines), f"{block}: a line that is no command of depthtok"
        for words in block.commands:
            call(*words)


def test_the_first_page_leaves_codes(clone, monkeypatch, capsys):
    monkeypatch.chdir(clone)
    codes = CodeStore("runs/codes")
    assert (codes.grid, codes.cameras) == ((16, 16), ("image", "wrist_image"))
    assert json.loads((clone / "runs/codes/report.json").read_text())
    (snippet,) = [b.text for b in blocks(ROOT / "docs/start.md") if b.language == "python"]
    exec(snippet, {})
    assert capsys.readouterr().out.splitlines() == [
        f"put the {words} on the plate (64, 16, 16) uint8"
        for words in ["black bowl", "middle black bowl"] * 2
    ]
