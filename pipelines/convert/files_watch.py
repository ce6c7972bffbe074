"""Did the files of a LeRobot or HDF5 data set change since a part was made of them?

A part records the sizes of its files and one digest of all their bytes. They are read again only
where a size is the same and a time, or an etag, is not (see `changes.py`). It records what the
metadata said of its episodes as well, where they are files of their own; parts of an earlier
depthtok do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from depthtok.remote.location import list_folders
from depthtok.sources.files import FileDataset, FileGroup
from depthtok.sources.shards import status_of
from depthtok.stores.frame_files import FILES, clearly_same, digest_of
from depthtok.stores.origin import MADE_FROM
from depthtok.stores.parts import Part
from depthtok.stores.store import Store
from pipelines.convert import seen
from pipelines.convert.changes import READERS, SHOWN


@dataclass
class FilesWatch:
    """A `Watch` over the files of each part, by its name."""

    out: Path
    dataset: FileDataset
    groups: Mapping[str, FileGroup]
    keys: Sequence[str]  # of the features with frames
    notes: Sequence[str] = ()
    changed: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    away: list[str] = field(default_factory=list)  # parts that exist, whose files are not there
    _times: dict[str, list[int]] = field(default_factory=dict)
    _digests: dict[str, str] = field(default_factory=dict)

    def _paths(self, name: str) -> list[Path]:
        return list(self.groups[name].paths(self.dataset.path))

    def look(self, names: Sequence[str], present: Mapping[str, Part]) -> None:
        """As `Watch.look`. Raises `SourceUnavailable`."""
        remembered = seen.recall(self.out)
        list_folders([path for name in names for path in self._paths(name)])
        doubtful = []
        for name in names:
            statuses = [(path, status_of(path)) for path in self._paths(name)]
            gone = [path for path, status in statuses if status is None]
            if gone and name not in present:
                self.absent[name] = f"{gone[0]} is not there"
            if gone and name in present:
                self.away.append(name)
            if gone:
                continue
            statuses_there = [status for _, status in statuses if status]
            times = [n for s in statuses_there for n in (s.st_size, s.st_mtime_ns, s.st_ctime_ns)]
            self._times[name] = times
            if name in present and self._may_differ(name, present[name], times, remembered):
                doubtful.append(name)
        with ThreadPoolExecutor(READERS) as pool:
            digests = pool.map(lambda name: digest_of(self._paths(name)), doubtful)
            for name, digest in zip(doubtful, digests, strict=True):
                if digest == present[name].meta[MADE_FROM]["digest"]:
                    self._digests[name] = digest
                else:
                    self.changed[name] = "other bytes"

    def _may_differ(
        self, name: str, part: Part, times: list[int], remembered: Mapping[str, list]
    ) -> bool:
        """Whether only reading the files tells; notes what is clear without."""
        recorded, group = part.meta[MADE_FROM], self.groups[name]
        if part.meta[FILES] != list(group.files):
            self.changed[name] = "other files"
        elif len(group.episodes) != recorded["episodes"]:
            count = recorded["episodes"]
            self.changed[name] = f"{len(group.episodes)} episodes are listed, not {count}"
        elif "metadata" in recorded and recorded["metadata"] != self.dataset.stated(
            group, self.keys, recorded["tasks"]
        ):
            self.changed[name] = "other metadata"
        elif times[::3] != recorded["sizes"]:
            self.changed[name] = "other sizes"
        elif remembered.get(name) == [*times, recorded["digest"]] or clearly_same(
            part, self.dataset.path
        ):
            self._digests[name] = recorded["digest"]
        else:
            return True
        return False

    def remember(self, made: Sequence[str]) -> None:
        """As `Watch.remember`."""
        parts = Store(self.out)
        for name in made:
            recorded = parts.part(name).meta[MADE_FROM]
            if recorded["sizes"] == self._times.get(name, [])[::3]:
                self._digests[name] = recorded["digest"]
        digests = ((n, digest) for n, digest in self._digests.items() if n in self._times)
        seen.keep(self.out, {name: [*self._times[name], digest] for name, digest in digests})

    def lines(self) -> list[str]:
        """As `Watch.lines`."""
        lines = list(self.notes)
        lines += [
            f"changed since it was converted: {self.groups[name].files[0]} or its videos "
            f"({reason}); its part is made anew"
            for name, reason in list(self.changed.items())[:SHOWN]
        ]
        if self.away:
            lines.append(
                f"files of {len(self.away)} parts are not there now (first: of "
                f"{self.groups[self.away[0]].files[0]}): these parts are kept as they are"
            )
        return lines
