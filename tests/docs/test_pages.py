"""What README and docs name is there: files, headings, commands, flags, settings."""

import json
import re
from importlib.metadata import version

import click
import pytest
import typer

from depthtok.api.interface import read
from depthtok.cli.application import commands
from depthtok.cli.main import app
from tests.docs.pages import PAGES, ROOT, dead_links, name, shell_blocks

COMMANDS = typer.main.get_command(app).commands
FUNCTIONS = {name: command.function for name, command in commands().items()}
NEEDS = {
    "bucket",  # an S3 server, or another one
    "cluster",  # Ray, Slurm or a cloud
    "data",  # data sets of the reader's
    "gpu",
    "hours",
    "minutes",
    "network",  # packages or weights are fetched
    "root",
    "server",  # a policy that is being served
    "sim",  # the extra, and a renderer
    "stores",  # made by commands of an earlier block, or with other settings
    "weights",  # of a network, which the reader has downloaded
}
VARIABLES = {"SLURM_ARRAY_TASK_ID": "1", "arm": "tiny", "SEED": "0", "STEPS": "800"}
"""Of the shell, in pages, with a value."""
BLOCKS = [block for page in PAGES for block in shell_blocks(page)]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    assert dead_links(page) == []


def test_a_dead_link_is_noticed(tmp_path):
    (tmp_path / "other.md").write_text("# One `thing`: and another\n\n# Twice\n\n# Twice\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](other.md#one-thing-and-another) [b](other.md#twice-1) [c](https://example.org/x)\n"
        "[d](other.md#twice-2) [e](none.md) ![f](none.png) [g](#here)\n\n```\n[h](none.md)\n```\n"
    )
    assert dead_links(page) == ["other.md#twice-2", "none.md", "none.png", "#here"]


@pytest.mark.parametrize("notebook", sorted((ROOT / "examples").rglob("*.ipynb")), ids=name)
def test_links_of_notebooks_lead_somewhere(notebook):
    cells = json.loads(notebook.read_text())["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert targets
    assert [target for target in targets if not (notebook.parent / target).exists()] == []


def test_pages_that_messages_name_are_there():
    """`docs/results.md` in a remedy, a docstring or on a page."""
    files = [f for d in ("depthtok", "pipelines", "vqvae", "vla") for f in (ROOT / d).rglob("*.py")]
    named = {page for f in files for page in re.findall(r"docs/[\w/-]+\.\w+", f.read_text())}
    assert "docs/results.md" in named
    assert sorted(page for page in named if not (ROOT / page).is_file()) == []


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_commands_of_pages_can_be_typed(block):
    """The command line takes every flag and value; presets and settings are known."""
    for command, *words in block.commands:
        shown = {o for p in COMMANDS[command].params if not p.hidden for o in options(p)}
        assert {word for word in words if word.startswith("--")} <= shown | {"--quiet"}
        words = [re.sub(r"\$(\w+)", lambda name: VARIABLES[name[1]], word) for word in words]
        params = COMMANDS[command].make_context(command, words).params
        interface = read(FUNCTIONS[command])
        values = {key: value for key, value in params.items() if value not in (None, (), [])}
        values.pop("json", None)
        interface.bind(values, str(block))


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_blocks_say_what_they_need(block):
    """A block of shell without `needs` is run by test_blocks_run.py."""
    assert block.needs <= NEEDS


FOREIGN = {
    "--array",  # of sbatch
    "--args.replan-steps",  # of openpi's client
    "--nproc-per-node",
    "--nnodes",
    "--rdzv-endpoint",  # of torchrun
    "--states",  # of benchmarks/expert_rates.py
    "--times",  # of the benchmark in remote.md
    "--args.chunk",
    "--args.pictures",  # of vla-eval
    "--quiet",  # of all commands
    "--version",  # of depthtok itself
}


def options(param: click.Parameter) -> list[str]:
    return [*param.opts, *param.secondary_opts]


def flags(*, former: bool) -> set[str]:
    """Every flag that some command's help shows; with `former` those that are settings by now."""
    params = [p for c in COMMANDS.values() for p in c.params if former or not p.hidden]
    return {flag for param in params for flag in options(param)}


@pytest.mark.parametrize("page", [p for p in PAGES if p.parent.name != "benchmarks"], ids=name)
def test_flags_in_prose_exist(page):
    prose = re.sub(r"```.*?```|`(?:\w+=\S+ )?python [^`]*`", "", page.read_text(), flags=re.DOTALL)
    code = " ".join(re.findall(r"`([^`]+)`", prose))
    known = flags(former=page.name == "CHANGELOG.md") | FOREIGN | {"--help"}
    assert {*re.findall(r"(?<!\S)--[a-z][a-z.-]*", code)} <= known


def test_the_citation_is_of_this_version():
    assert f"version: {version('depthtok')}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_pages_have_commands():
    assert sum(len(block.commands) for block in BLOCKS if block.page == "README.md") > 8


def test_the_files_that_check_exist():
    """Every file in the table of checks is there, in the package or beside its commands."""
    text = (ROOT / "docs" / "checks.md").read_text()
    files = set(re.findall(r"`([\w/]+\.py)`", text))
    assert len(files) > 25
    assert [
        f for f in files if not ((ROOT / f).is_file() or (ROOT / "depthtok" / f).is_file())
    ] == []


def test_the_tour_names_what_is_there():
    """Each `name` before a link of the tour is defined in the file that the link leads to."""
    tour = (ROOT / "CONTRIBUTING.md").read_text().partition("## A tour")[2].partition("\n## ")[0]
    stations = re.findall(r"^\d+\. \*\*", tour, re.MULTILINE)
    assert len(stations) == 10
    named = re.findall(r"`(\w+)` of\s+\[[^\]]+\]\(([^)]+)\)", tour)
    assert len(named) > 15
    for symbol, file in named:
        assert re.search(rf"^ *(class|def) {symbol}\b", (ROOT / file).read_text(), re.MULTILINE), (
            symbol,
            file,
        )
