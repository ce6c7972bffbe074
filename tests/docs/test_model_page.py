"""The map of `vla/` in docs/model.md."""

import re

from tests.docs.pages import ROOT


def test_the_files_that_the_page_maps_are_there():
    page = (ROOT / "docs" / "model.md").read_text()
    rows = page.partition("| file | what |")[2].partition("\n\n")[0].splitlines()[2:]
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])]
    assert len(named) > 20
    assert [name for name in named if not (ROOT / "vla" / name).exists()] == []
    folders = {name.split("/")[0] for name in named if "/" in name}
    there = {path.parent.name for path in (ROOT / "vla").glob("*/__init__.py")}
    assert folders - {"presets"} == there
    model = {path.name for path in (ROOT / "vla" / "model").glob("[!_]*.py")}
    assert model == {name.removeprefix("model/") for name in named if name.startswith("model/")}
