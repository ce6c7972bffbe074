"""Checks shapes, dtypes and types of every call in the packages, by their annotations.

Not checked: the commands' own files, which name types that only the commands' bodies import.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

GROUND = Path(__file__).resolve().parents[2] / "depthtok"
LEFT_OUT = {"__init__", "__main__", "cli", "commands", "options"}

typechecker = partial(beartype, conf=BeartypeConf(is_pep484_tower=True))  # an int is a float too


def unchecked() -> dict[str, str]:
    """The environment of a process whose calls are not checked: of one whose time is measured, or
    that must not load what the checks need."""
    return os.environ | {"DEPTHTOK_CHECK_CALLS": "0"}


def install() -> None:
    """Has everything checked that is imported from now on."""
    names = {path.stem for path in GROUND.iterdir() if path.suffix == ".py" or path.is_dir()}
    modules = [f"depthtok.{name}" for name in sorted(names - LEFT_OUT)]
    install_import_hook([*modules, "pipelines", "vqvae", "vla"], "checked_calls.typechecker")
