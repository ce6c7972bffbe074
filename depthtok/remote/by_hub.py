"""Objects of repositories on the Hugging Face Hub, by huggingface_hub: `hf://datasets/OWNER/NAME`.

A revision (`NAME@REVISION`; `main` without it) is looked up once: all that is read is of one
commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub

from depthtok.remote.errors import Trouble
from depthtok.remote.hub import client, endpoint, in_words, missing
from depthtok.remote.objects import Described, Objects
from depthtok.remote.repository import DATASET, MODEL, Repository


@dataclass(frozen=True)
class HubObjects:
    """The files of one commit of a repository; what is written is a commit of its own on `main`."""

    files: huggingface_hub.HfFileSystem
    url: str
    root: str  # with the commit, as HfFileSystem names it

    @classmethod
    def open(cls, bucket: str) -> HubObjects:
        """The repository `datasets/OWNER/NAME` or `datasets/OWNER/NAME@REVISION`, or one without a
        kind: of data, too."""
        url = f"hf://{bucket}"
        repository = Repository.parse(url, DATASET)
        assert repository is not None
        with in_words(url):
            info = client().repo_info(
                repository.name, repo_type=repository.kind, revision=repository.revision or None
            )
        prefix = "" if repository.kind == MODEL else f"{repository.kind}s/"
        files = huggingface_hub.HfFileSystem(endpoint=endpoint(), skip_instance_cache=True)
        return cls(files, url, f"{prefix}{repository.name}@{info.sha}")

    @property
    def revision(self) -> str:
        return self.root.rpartition("@")[2]

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
        with in_words(f"{self.url}/{name}"):
            listed = self.files.ls(f"{self.root}/{name}".rstrip("/"), detail=True)
        entries = [entry for entry in listed if isinstance(entry, dict)]
        files = [self._described(entry) for entry in entries if entry["type"] == "file"]
        others = [str(entry["name"]) for entry in entries if entry["type"] != "file"]
        folders = [name.removeprefix(f"{self.root}/") for name in others]
        return sorted(folders), sorted(files, key=lambda described: described.name)

    def write(self, name: str, data: bytes | Path) -> None:
        with in_words(f"{self.url}/{name}"):
            target = f"{self.root.partition('@')[0]}/{name}"
            if isinstance(data, Path):
                self.files.put_file(str(data), target)
            else:
                self.files.pipe_file(target, data)


_: type[Objects] = HubObjects
