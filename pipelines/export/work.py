"""Where an export is made: what is done of it so far, and whether what is there is the same one.

    OUT/.export/what.json           of which stores and settings this is made
    OUT/.export/episodes/000/00007  what was made of one episode; there only when it is whole
    OUT/meta/depthtok.json          of a finished one: what it was made of, and its files

A directory that holds anything else is left alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from depthtok.config import digest, to_json
from depthtok.disk.digests import file_sha256
from depthtok.disk.files import remove, write_atomic
from depthtok.disk.temporaries import TEMPORARY, sweep
from depthtok.errors import CorruptPart, OutputError, StaleStore
from depthtok.json_values import JsonObject, value_of
from depthtok.sources.features import read_json
from depthtok.sources.foreign import UNFINISHED
from pipelines.export.config import ExportConfig
from pipelines.export.joined import Joined

VERSION = 1
"""Of what is written; another one makes an export anew."""

WORK, WHAT = UNFINISHED, "what.json"


@dataclass(frozen=True)
class Failed:
    """An episode that is not in the export, and why."""

    key: str
    reason: str


@dataclass(frozen=True)
class Exported:
    """What an export is: its episodes, frames and bytes. `made` is false where it was there. By
    camera: the clips that were `copied`, and the pixels of depth that are `beyond` its ends.
    `comes_back`: whether `depthtok convert` reads it, which asks for actions."""

    out: Path
    format: str
    episodes: int
    frames: int
    files: int
    bytes: int
    made: bool
    failures: list[Failed] = field(default_factory=list)
    copied: dict[str, int] = field(default_factory=dict)
    beyond: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    comes_back: bool = True

    @property
    def exit_code(self) -> int:
        """1 where an episode failed."""
        return 1 if self.failures else 0


def fingerprint(joined: Joined, config: ExportConfig) -> str:
    """Names what is exported, and how."""
    stores = {
        name: {"fingerprint": store.fingerprint, "content": store.content}
        for name, store in (
            ("episodes", joined.episodes),
            ("codes", joined.codes),
            ("depth", joined.depth),
        )
        if store
    }
    return digest({"version": VERSION, "settings": to_json(config), "stores": stores})


@dataclass(frozen=True)
class ExportDirectory:
    """The directory of an export. A finished one has the files `record` and `last` below `out`."""

    out: Path
    record: str
    last: str
    fingerprint: str

    @property
    def work(self) -> Path:
        """What is there until it is finished."""
        return self.out / WORK

    def finished(self) -> JsonObject | None:
        """The record of this very export, if it is there whole.

        Raises `CorruptPart` where one of its files is not as it was, `StaleStore` where another
        export is there, `OutputError` where it is something else.
        """
        if (self.out / self.record).is_file() and (self.out / self.last).is_file():
            record = read_json(self.out / self.record)
            if record.get("fingerprint") != self.fingerprint:
                raise self._other()
            self._require_whole(record)
            return record
        if (self.work / WHAT).is_file():
            if read_json(self.work / WHAT).get("fingerprint") != self.fingerprint:
                raise self._other()
        elif self.out.exists() and any(self.out.iterdir()):
            raise OutputError(
                f"{self.out} is not empty, and no export of depthtok",
                remedy="choose another --out",
            )
        return None

    def begin(self) -> None:
        """Says what is made here, and clears what dead writers left."""
        write_atomic(self.work / WHAT, json.dumps({"fingerprint": self.fingerprint}) + "\n")
        for folder in (self.out, *list(self.out.glob("**/"))):
            sweep(folder)

    def end(self) -> None:
        """Removes what was needed to go on."""
        remove(self.work)

    def files(self, paths: Iterable[Path]) -> dict[str, list[object]]:
        """Size and SHA-256 of files, by their paths below `out`; what a writer of another host left
        behind is none of them."""
        return {
            path.relative_to(self.out).as_posix(): [path.stat().st_size, file_sha256(path)]
            for path in sorted(paths)
            if not path.name.startswith(TEMPORARY)
        }

    def _other(self) -> StaleStore:
        return StaleStore(
            f"{self.out} holds an export of other stores, or with other settings",
            remedy="choose another --out, or remove it",
        )

    def _require_whole(self, record: Mapping[str, object]) -> None:
        for name, (size, _) in value_of(record, "files", dict).items():
            path = self.out / name
            if not path.is_file() or path.stat().st_size != size:
                raise CorruptPart(
                    f"{path} is not as it was exported",
                    remedy="remove the export, and run it again",
                )
