"""The help of the application, and what goes for all commands."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from depthtok.cli.application import GROUPS, app, commands

BEFORE = Path(__file__).parents[2] / "data" / "before"


def depthtok(*words: object, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "DEPTHTOK_QUIET"}
    command = [sys.executable, "-m", "depthtok", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env={**environment, **more})


def test_every_command_is_in_one_group():
    listed = Counter(name for names in GROUPS.values() for name in names)
    assert listed == Counter(dict.fromkeys(commands(), 1))


def test_help_lists_the_commands_below_their_headings():
    text = CliRunner().invoke(app, ["--help"]).output
    places = [text.index(f"\n{heading}:\n") for heading in GROUPS]
    assert places == sorted(places)
    assert "\nCommands:" not in text
    _, _, codes = text.partition("\nCodes:\n")
    listed = [line.split()[0] for line in codes.partition("\n\n")[0].splitlines() if line[2] != " "]
    assert listed == ["train-vqvae", "eval-vqvae", "tokenize", "decode"]


@pytest.mark.parametrize("place", [0, 1, 3])
def test_quiet_leaves_results_warnings_and_errors(place):
    words = ["inspect", BEFORE / "codes"]
    loud = depthtok(*words)
    assert loud.stdout.endswith(f"next: depthtok report {BEFORE / 'codes'}\n")
    quiet = depthtok(*words[:place], "--quiet", *words[place:])
    assert quiet.returncode == 0
    assert quiet.stdout == loud.stdout.removesuffix(f"next: depthtok report {BEFORE / 'codes'}\n")
    assert depthtok(*words, DEPTHTOK_QUIET="1").stdout == quiet.stdout


def test_quiet_still_says_why_it_refuses():
    refused = depthtok("--quiet", "inspect", "nowhere")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: there is no nowhere\n  fix: ")
    assert "\x1b" not in refused.stderr  # no colour: this is no terminal
