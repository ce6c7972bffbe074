"""Objects of repositories on the Hugging Face Hub, by huggingface_hub: `hf://datasets/OWNER/NAME`.

A revision (`NAME@REVISION`; `main` without it) is looked up once, and after each file that is
written: all that is read between is of one commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from urllib.parse import quote

import huggingface_hub

from depthtok.errors import ConfigError
from depthtok.remote.errors import Missing, Trouble
from depthtok.remote.hub import client, endpoint, in_words, missing
from depthtok.remote.objects import Described, Objects
from depthtok.remote.repository import DATASET, MODEL, Repository

MAIN = "main"


@dataclass
class HubObjects:
    """The files of one commit of a repository. What is written is a commit of its own, one after
    the other, and what is read from then on is of that."""

    files: huggingface_hub.HfFileSystem
    url: str
    repository: Repository
    commit: str
    lock: Lock = field(default_factory=Lock)

    @property
    def root(self) -> str:
        """The commit, as HfFileSystem names it."""
        return self._at(self.commit)

    def _at(self, revision: str) -> str:
        repository = self.repository
        prefix = "" if repository.kind == MODEL else f"{repository.kind}s/"
        return f"{prefix}{repository.name}@{quote(revision, safe='')}"

    @classmethod
    def open(cls, bucket: str) -> HubObjects:
        """The repository `datasets/OWNER/NAME` or `datasets/OWNER/NAME@REVISION`, or one without a
        kind: of data, too."""
        url = f"hf://{bucket}"
        repository = Repository.parse(url, DATASET)
        assert repository is not None
        files = huggingface_hub.HfFileSystem(endpoint=endpoint(), skip_instance_cache=True)
        return cls(files, url, repository, _commit_of(repository, url))

    @property
    def revision(self) -> str:
        return self.commit

    def describe(self, name: str) -> Described:
        file_url = f"{self.url}/{name}"
        with in_words(file_url):
            entry = self.files.info(f"{self.root}/{name}")
        if entry["type"] != "file":
            raise missing(file_url)
        return self._described(entry)

    def _described(self, entry: Mapping[str, object]) -> Described:
        lfs = entry.get("lfs")
        sha256 = lfs.get("sha256") if isinstance(lfs, Mapping) else None
        etag = str(sha256 or entry.get("blob_id") or "")
        name = str(entry["name"]).removeprefix(f"{self.root}/")
        return Described(name, int(str(entry["size"])), etag, 0)

    def read(self, name: str, start: int, stop: int, etag: str) -> memoryview:
        if start == stop:
            return memoryview(b"")
        with in_words(f"{self.url}/{name}"):
            data = self.files.cat_file(f"{self.root}/{name}", start=start, end=stop)
        if not isinstance(data, bytes) or len(data) != stop - start:
            raise Trouble(f"{len(data):,} bytes came of the {stop - start:,} asked for")
        return memoryview(data)

    def folder(self, name: str) -> tuple[Sequence[str], Sequence[Described]]:
        try:
            with in_words(f"{self.url}/{name}"):
                listed = self.files.ls(f"{self.root}/{name}".rstrip("/"), detail=True)
        except Missing:  # the repository is there, and nothing in it is below this name
            return [], []
        entries = [entry for entry in listed if isinstance(entry, dict)]
        files = [self._described(entry) for entry in entries if entry["type"] == "file"]
        others = [str(entry["name"]) for entry in entries if entry["type"] != "file"]
        folders = [name.removeprefix(f"{self.root}/") for name in others]
        return sorted(folders), sorted(files, key=lambda described: described.name)

    def write(self, name: str, data: bytes | Path) -> None:
        """As `Objects` has it. Raises `ConfigError` at a commit, which does not change."""
        if self.repository.is_pinned:
            raise ConfigError(
                f"{self.url} is a commit, which does not change",
                remedy="name a branch, or the repository alone",
            )
        target = f"{self._at(self.repository.revision or MAIN)}/{name}"
        with self.lock:
            with in_words(f"{self.url}/{name}"):
                if isinstance(data, Path):
                    self.files.put_file(str(data), target)
                else:
                    self.files.pipe_file(target, data)
            self.commit = _commit_of(self.repository, self.url)


def _commit_of(repository: Repository, url: str) -> str:
    """The commit that the revision of a repository is now."""
    with in_words(url):
        info = client().repo_info(
            repository.name, repo_type=repository.kind, revision=repository.revision or None
        )
    return str(info.sha)


_: type[Objects] = HubObjects
