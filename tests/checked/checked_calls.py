"""Checks shapes, dtypes and types of every call in the packages, by their annotations.

Not checked: the commands' own files, which name types that only the commands' bodies import.
"""

from __future__ import annotations

import inspect
import os
import sys
import typing
from functools import partial
from pathlib import Path

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

GROUND = Path(__file__).resolve().parents[2] / "depthtok"
LEFT_OUT = {"__init__", "__main__", "api", "cli"}

typechecker = partial(beartype, conf=BeartypeConf(is_pep484_tower=True))  # an int is a float too


def look_without_calling() -> None:
    """Has `isinstance` look at a protocol's members as Python 3.12 does: properties are found, not
    evaluated, which may cost much or raise."""
    metaclass, members = typing._ProtocolMeta, typing._get_protocol_attrs
    usual = metaclass.__instancecheck__

    def check(cls: type, instance: object) -> bool:
        if not getattr(cls, "_is_runtime_protocol", False):
            return usual(cls, instance)
        missing = object()
        return all(
            inspect.getattr_static(instance, name, missing) is not missing
            or hasattr(instance, name)  # of what passes on to another object
            for name in members(cls)
        )

    metaclass.__instancecheck__ = check


def unchecked() -> dict[str, str]:
    """The environment of a process whose calls are not checked: of one whose time is measured, or
    that must not load what the checks need."""
    return os.environ | {"DEPTHTOK_CHECK_CALLS": "0"}


def install() -> None:
    """Has everything checked that is imported from now on."""
    if sys.version_info < (3, 12):
        look_without_calling()
    names = {path.stem for path in GROUND.iterdir() if path.suffix == ".py" or path.is_dir()}
    modules = [f"depthtok.{name}" for name in sorted(names - LEFT_OUT)]
    install_import_hook([*modules, "pipelines", "vqvae", "vla"], "checked_calls.typechecker")
