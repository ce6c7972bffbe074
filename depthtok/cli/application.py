"""The application: all commands, each in a file of its name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any

import typer

from depthtok.api.names import COMMANDS
from depthtok.cli.options import Command, new_app

MODULES = tuple(COMMANDS.values())
HELP = """Depth tokens for any robot data set, and the QDepth-VLA that trains on them.

From a data set to a policy: convert, annotate, train-vqvae, tokenize, train-vla. `run` does all
of it, and `demo` shows all of it on data that ships with the package. `depthtok --version` says
which version this is; `depthtok --quiet COMMAND ...` prints results, warnings and errors alone."""

GROUPS = {
    "To begin with": ("demo", "doctor", "inspect", "run"),
    "Episodes": ("convert", "collect", "export"),
    "Depth": ("annotate", "audit-depth", "finetune-depth"),
    "Codes": ("train-vqvae", "eval-vqvae", "tokenize", "decode"),
    "Policies": ("train-vla", "eval-depth", "eval", "serve", "ablate", "inspect-mask"),
    "Look, compare, keep": ("report", "view", "compare", "verify", "copy", "push", "settings"),
}
"""Headings of `depthtok --help`, and the commands below them."""


def __getattr__(name: str) -> Any:
    """`app`, with all commands, where it is asked for."""
    if name != "app":
        raise AttributeError(name)
    globals()["app"] = built(commands().values())
    return globals()["app"]


def commands(modules: Sequence[str] = MODULES) -> dict[str, Command]:
    """The commands of these files by name, in the order of the help."""
    loaded = [import_module(f"depthtok.cli.{module}") for module in modules]
    return {module.COMMAND.name: module.COMMAND for module in loaded}


def app_for(words: Sequence[str]) -> typer.Typer:
    """The application that a command line needs: the command that it names alone, or all."""
    module = words[0].replace("-", "_") if words else ""
    if module not in MODULES or any(name.endswith("_COMPLETE") for name in os.environ):
        return built(commands().values())
    return built(commands([module]).values())


def built(chosen: Iterable[Command]) -> typer.Typer:
    """An application of these commands."""
    app = new_app(HELP, GROUPS)
    app.callback()(lambda: None)  # a command alone is named on the command line all the same
    for command in chosen:
        command.register(app)
    return app
