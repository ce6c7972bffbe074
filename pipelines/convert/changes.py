"""Did the files change since an EpisodeStore was made of them?

A part records the size and the digest of its shard. Which sizes and times were found to be those of
that digest is remembered (`seen.py`); what is not is checked, which reads 16 bytes a record. So a
data set that was copied, touched or mounted elsewhere is checked once, and one that has not changed
is not read at all. Videos and images are checked by all of their bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

from depthtok.sources.framing import is_same
from depthtok.sources.shards import Shard, status_of
from depthtok.sources.videos import VideoEpisode
from depthtok.stores.frame_files import SizedFile
from depthtok.stores.origin import MADE_FROM, shard_looks_other
from depthtok.stores.parts import Part
from depthtok.stores.store import Store
from pipelines.convert import seen

READERS = 8  # threads that check shards: most of the time goes into waiting for the disk
SHOWN = 3  # names in a message


@runtime_checkable
class Watch(Protocol):
    """What became of the sources of parts. For stages whose source is a store it is `None`."""

    @property
    def changed(self) -> dict[str, str]: ...  # part -> how its source differs

    @property
    def absent(self) -> dict[str, str]: ...  # part -> its source, which is not there

    def look(self, names: Sequence[str], present: Mapping[str, Part]) -> None:
        """Looks at the sources of these parts; `present` are those that exist."""
        ...

    def remember(self, made: Sequence[str]) -> None:
        """Keeps what was found, and what the parts made since were made from."""
        ...

    def lines(self) -> list[str]:
        """What is worth saying."""
        ...


@dataclass
class ShardWatch:
    """The shards of an RLDS directory, by the name of their part."""

    out: Path
    root: Path
    shards: Mapping[str, Shard]
    notes: tuple[str, ...] = ()
    changed: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)  # parts that do not say
    away: list[str] = field(default_factory=list)  # shards of parts that exist
    looked: int = 0
    checked: int = 0  # shards whose digest was computed
    _times: dict[str, list[int]] = field(default_factory=dict)  # size and times, as read first
    _digests: dict[str, str] = field(default_factory=dict)  # of parts: what their times stand for

    @cached_property
    def _remembered(self) -> dict[str, list]:
        return seen.recall(self.out)

    def look(self, names: Sequence[str], present: Mapping[str, Part]) -> None:
        """Looks at the shards of these parts. Raises `SourceUnavailable`."""
        doubtful = [name for name in names if not self._is_clear(name, present.get(name))]
        self.looked, self.checked = len(names), len(doubtful)
        with ThreadPoolExecutor(READERS) as pool:
            paths = [self.shards[name].path for name in doubtful]
            recorded = [present[name].meta[MADE_FROM] for name in doubtful]
            for name, unchanged in zip(doubtful, pool.map(is_same, paths, recorded), strict=True):
                if unchanged:
                    self._digests[name] = present[name].meta[MADE_FROM]["digest"]
                else:
                    self.changed[name] = "other bytes"

    def _is_clear(self, name: str, part: Part | None) -> bool:
        """Whether all is known of a shard without reading it; notes what is."""
        shard = self.shards[name]
        status = status_of(shard.path)
        if status:
            self._times[name] = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        elif shard.state == "absent":
            self._note_absent(name, part)
            return True
        if part is None:
            return True
        made_from = part.meta.get(MADE_FROM)
        if made_from is None:
            self.unknown.append(name)
            return True
        size = status.st_size if status else 0
        if reason := shard_looks_other(part.meta, shard, self.root, size):
            self.changed[name] = reason
            return True
        entry = [*self._times.get(name, []), made_from["digest"]]
        if self._remembered.get(name) == entry or not status:
            self._digests[name] = made_from["digest"]
            return True
        return False

    def _note_absent(self, name: str, part: Part | None) -> None:
        if part is None:
            self.absent[name] = f"{self.shards[name].path} is not there"
        else:
            self.away.append(name)

    def remember(self, made: Sequence[str]) -> None:
        """Keeps the sizes and times that stand for digests. Where that cannot be written, the next
        run checks again."""
        parts = Store(self.out)
        for name in made:
            made_from = parts.part(name).meta.get(MADE_FROM, {})
            if made_from.get("size") == self._times.get(name, [None])[0]:
                self._digests[name] = made_from["digest"]
        digests = ((n, digest) for n, digest in self._digests.items() if n in self._times)
        seen.keep(self.out, {name: [*self._times[name], digest] for name, digest in digests})

    def lines(self) -> list[str]:
        """What is worth saying."""
        lines = list(self.notes)
        if self.changed:
            lines.append(
                f"{len(self.changed)} of {self.looked} shards changed since they were converted: "
                "their parts are made anew"
            )
            for name, reason in list(self.changed.items())[:SHOWN]:
                lines.append(f"changed: {self.shards[name].path.name}: {reason}")
        if self.away:
            lines.append(
                f"{len(self.away)} shards are not there now (first: "
                f"{self.shards[self.away[0]].path.name}): their parts are kept as they are"
            )
        if self.unknown:
            lines.append(
                f"{len(self.unknown)} parts were made by an earlier depthtok, and do not say what "
                "their shards were: whether those changed is not known; --overwrite makes the "
                "store anew"
            )
        return lines


@dataclass
class FilmWatch:
    """Videos and folders of images, by the name of their part."""

    out: Path
    films: Mapping[str, VideoEpisode]
    changed: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    unknown: int = 0  # parts that do not say
    _times: dict[str, list[int]] = field(default_factory=dict)
    _digests: dict[str, str] = field(default_factory=dict)

    def look(self, names: Sequence[str], present: Mapping[str, Part]) -> None:
        """Looks at the files of these parts, and reads those whose times are others. Raises
        `SourceUnavailable`."""
        remembered = seen.recall(self.out)
        for name in names:
            film = self.films[name]
            self._times[name] = film.times
            made_from = present[name].meta.get(MADE_FROM) if name in present else None
            if made_from is None:
                self.unknown += name in present
            elif remembered.get(name) == [*film.times, made_from["digest"]] or (
                film.digest == made_from["digest"]
            ):
                self._digests[name] = made_from["digest"]
            else:
                self.changed[name] = "other bytes"

    def remember(self, made: Sequence[str]) -> None:
        """Keeps the sizes and times that stand for digests."""
        parts = Store(self.out)
        for name in made:
            self._digests[name] = parts.part(name).meta[MADE_FROM]["digest"]
        digests = self._digests.items()
        seen.keep(self.out, {name: [*self._times[name], digest] for name, digest in digests})

    def lines(self) -> list[str]:
        """What is worth saying."""
        lines = [
            f"changed since it was packed: {self.films[name].name}; its part is made anew"
            for name in list(self.changed)[:SHOWN]
        ]
        if self.unknown:
            lines.append(
                f"{self.unknown} videos or image folders were packed by an earlier depthtok: "
                "whether they changed since, with equal sizes, is not known"
            )
        return lines


@dataclass
class ImageWatch:
    """The files in which the images of episodes lie: `files_of` the part of a name, which is made
    of them.

    What is not there, or is not what was converted, makes no part: its episodes have not failed.
    """

    files_of: Callable[[str], list[SizedFile]]
    changed: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def look(self, names: Sequence[str], present: Mapping[str, Part]) -> None:
        """Looks at the files of the parts that do not exist, once at each. Raises
        `SourceUnavailable`."""
        look = cache(status_of)
        for name in names:
            if name in present:
                continue
            for path, size in self.files_of(name):
                status = look(path)
                if status is None:
                    self.absent[name] = f"{path} is not there"
                elif size not in (None, status.st_size):
                    self.absent[name] = (
                        f"{path} changed since it was converted: `depthtok convert` makes its "
                        "part anew"
                    )

    def remember(self, made: Sequence[str]) -> None:
        """Nothing: parts of depth and codes carry the digest of what they were made from."""

    def lines(self) -> list[str]:
        """Nothing more than what is absent."""
        return []
