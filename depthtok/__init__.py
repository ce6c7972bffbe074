"""Depth tokens for any robot data set: every command as a function, and stores as objects.

    import depthtok

    depthtok.annotate("runs/episodes", out="runs/depth", estimator="vits", workers=8)
    store = depthtok.open_store("runs/depth")
    help(depthtok.annotate)

Everything is loaded when it is first asked for. In the folders: the data and how they lie on disk
(`sources/`, `stores/`, `disk/`), the commands as functions (`api/`), the command line (`cli/`).
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from depthtok.api.names import COMMANDS

__all__ = [*COMMANDS, "__version__", "load_policy", "open_store"]  # all are text


def __getattr__(name: str) -> Any:
    """What is loaded when it is asked for."""
    if name in COMMANDS:
        from depthtok.api.interface import face

        value: Any = face(getattr(import_module(f"depthtok.api.{COMMANDS[name]}"), name))
    elif name in ("open_store", "load_policy"):
        value = getattr(import_module("depthtok.api.opening"), name)
    elif name == "__version__":
        from importlib.metadata import version

        value = version("depthtok")
    else:
        raise AttributeError(f"module 'depthtok' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
