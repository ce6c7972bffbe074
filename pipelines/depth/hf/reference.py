"""`hf:OWNER/NAME@REVISION` or `hf:DIRECTORY`: which model is meant. Standard library only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from depthtok.errors import ConfigError

START = "hf:"
_NAME = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
FORM = "hf:OWNER/NAME, hf:OWNER/NAME@REVISION, or hf:DIRECTORY"


@dataclass(frozen=True)
class Reference:
    """A model on the Hugging Face Hub, at a revision if one is given; or one in a directory."""

    source: str
    revision: str | None = None
    local: bool = False

    @classmethod
    def of(cls, name: str) -> Reference:
        """From an estimator's name. Raises `ConfigError`."""
        text = name.removeprefix(START)
        if text and Path(text).is_dir():
            return cls(text, local=True)
        match = _NAME.fullmatch(text)
        if match is None or text.startswith((".", "/", "~")):
            raise ConfigError(
                f"{name} names no model: there is no directory {text!r}", remedy=f"write {FORM}"
            )
        return cls(match["repo"], match["revision"])
