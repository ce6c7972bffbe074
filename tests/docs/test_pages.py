"""What README and docs name is there: files, commands, flags."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from depthtok.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *ROOT.glob("benchmarks/*.md")])
COMMANDS = typer.main.get_command(app).commands


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    links = [link for link in links if not link.startswith(("http:", "https:"))]
    assert [link for link in links if not (page.parent / link).exists()] == []


def commands(page: Path) -> list[list[str]]:
    """The words of every depthtok command in the page's blocks of shell."""
    blocks = re.findall(r"```(?:bash|sh|console)?\n(.*?)```", page.read_text(), re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    lines = [line.removeprefix("$ ").strip() for line in lines]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("depthtok ")]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_and_flags_exist(page):
    for words in commands(page):
        assert words[1] in COMMANDS, words
        flags = {flag for parameter in COMMANDS[words[1]].params for flag in parameter.opts}
        flags |= {
            flag for parameter in COMMANDS[words[1]].params for flag in parameter.secondary_opts
        }
        written = {word.split("=")[0] for word in words if word.startswith("--")}
        assert written <= flags | {"--help"}, words


FOREIGN = {
    "--args.replan-steps",  # of openpi's client
    "--nproc-per-node",
    "--nnodes",
    "--rdzv-endpoint",  # of torchrun
    "--states",  # of benchmarks/expert_rates.py
}


def flags() -> set[str]:
    """Every flag of every command."""
    params = [param for command in COMMANDS.values() for param in command.params]
    return {flag for param in params for flag in (*param.opts, *param.secondary_opts)}


@pytest.mark.parametrize("page", [p for p in PAGES if p.parent.name != "benchmarks"], ids=name)
def test_flags_in_prose_exist(page):
    prose = re.sub(r"```.*?```|`python [^`]*`", "", page.read_text(), flags=re.DOTALL)
    code = " ".join(re.findall(r"`([^`]+)`", prose))
    assert {*re.findall(r"(?<!\S)--[a-z][a-z.-]*", code)} <= flags() | FOREIGN | {"--help"}


def test_the_pages_have_commands():
    assert len(commands(ROOT / "README.md")) > 8


def test_the_files_that_check_exist():
    """Every file in the table of checks is there, in the package or beside its commands."""
    text = (ROOT / "docs" / "checks.md").read_text()
    files = set(re.findall(r"`([\w/]+\.py)`", text))
    assert len(files) > 25
    assert [
        f for f in files if not ((ROOT / f).is_file() or (ROOT / "depthtok" / f).is_file())
    ] == []
