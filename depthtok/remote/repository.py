"""Names of repositories on the Hugging Face Hub: `hf://OWNER/NAME`, `hf://datasets/OWNER/NAME`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from depthtok.errors import ConfigError
from depthtok.required import fulfilled

MODEL, DATASET = "model", "dataset"
FOLDERS = {"models": MODEL, "datasets": DATASET}  # what a URL may say before the owner
_NAME = r"[A-Za-z0-9][\w.-]*"
_PART = rf"{_NAME}/{_NAME}"
_URL = re.compile(rf"hf:/{{1,2}}(?:(models|datasets)/)?({_PART})(?:@([^/?#\s]+))?/?")
_REPOSITORY = re.compile(_PART)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_CACHED = re.compile(r"(models|datasets)--([^/]+?)--([^/]+)/snapshots/([0-9a-f]{40})(?:/|$)")


@dataclass(frozen=True)
class Repository:
    """A repository: its name (OWNER/NAME), what it is for (`model` or `dataset`), and a branch, tag
    or commit; "" is its main branch. Raises `ConfigError` for what cannot be one."""

    name: str
    kind: str = MODEL
    revision: str = ""

    def __post_init__(self) -> None:
        owner = self.name.partition("/")[0]
        fulfilled(
            _REPOSITORY.fullmatch(self.name) and owner not in (*FOLDERS, "spaces"),
            f"{self.name!r} names no repository on the Hub",
            "give OWNER/NAME",
        )
        fulfilled(
            self.kind in FOLDERS.values(),
            f"a repository is no {self.kind!r}",
            f"known: {', '.join(FOLDERS.values())}",
        )

    @classmethod
    def parse(cls, path: str | Path, kind: str = MODEL) -> Repository | None:
        """The repository that an hf:// URL names, of this kind where the URL does not say; None for
        any other path. Raises `ConfigError` for an hf:// URL that names none, or a file in one."""
        text = str(path)
        if not text.startswith("hf:/"):
            return None
        match = _URL.fullmatch(text)
        if match is None:
            raise ConfigError(
                f"{text} names no repository on the Hub",
                remedy="give hf://OWNER/NAME, hf://datasets/OWNER/NAME or either with @REVISION (a "
                "branch, a tag or a commit)",
            )
        folder, name, revision = match.groups()
        return cls(name, FOLDERS[folder] if folder else kind, revision or "")

    @property
    def url(self) -> str:
        """As it is typed."""
        folder = "" if self.kind == MODEL else f"{self.kind}s/"
        return f"hf://{folder}{self.name}" + (f"@{self.revision}" if self.revision else "")

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a commit, which never changes."""
        return bool(_COMMIT.fullmatch(self.revision))

    def at(self, revision: str) -> Repository:
        """The same at another revision."""
        return Repository(self.name, self.kind, revision)


def recorded(path: Path) -> str:
    """How a path is recorded: a folder of the Hub's cache as the URL of its commit, which names the
    same bytes everywhere; any other path as it is."""
    if match := _CACHED.search(path.as_posix()):
        folder, owner, name, commit = match.groups()
        return Repository(f"{owner}/{name}", FOLDERS[folder], commit).url
    return str(path)
