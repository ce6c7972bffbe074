"""Which files are the shards of a split, and how many episodes each has.

`shardLengths` of dataset_info.json says how many shards there are, and the template how their files
are called. Where it is absent, or the files are numbered otherwise (builders with several workers
leave out empty shards), the files are counted, which reads 16 bytes a record. What that leaves
open is refused, with the names of the files that are there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from depthtok.errors import SourceError, SourceUnavailable
from depthtok.sources.framing import framing_of

INFO = "dataset_info.json"
TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
SHOWN = 8  # files that a message names


@dataclass(frozen=True)
class Shard:
    """One file of a split. `episodes` is the number of episodes that it should contain.

    `known` is false for a shard that is not there, and of which nothing states the episodes.
    """

    path: Path
    index: int
    of: int
    episodes: int
    known: bool = True

    @property
    def state(self) -> str:
        """Whether there is something to read: "there", "absent", or "empty": no file, and certain
        to have no episode. Raises `SourceUnavailable` where that cannot be told."""
        if status_of(self.path):
            return "there"
        return "empty" if self.known and not self.episodes else "absent"


def status_of(path: Path) -> os.stat_result | None:
    """The status of a file of the source; None where it is certain that there is none. Raises
    `SourceUnavailable` where the file system does not tell."""
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SourceUnavailable(
            f"{path} cannot be looked at now ({error.strerror})",
            remedy="see that it is there and may be read, then run the same command again",
        ) from error


@dataclass(frozen=True)
class Naming:
    """How the files of one split are called."""

    root: Path
    template: str
    dataset: str
    split: str

    def file(self, index: int, of: int) -> Path:
        """The file of a shard. A template that points outside the directory is refused.

        Symbolic links are followed, because downloads are often links into a cache.
        """
        number, total = shard_numbers(index, of)
        name = self._filled(number, total)
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts or re.search(r"[{}\\\x00]", name):
            raise SourceError(
                f"{self.root / INFO}: filepathTemplate {self.template!r} does not name a file of "
                "the data set",
                remedy=f"placeholders are {', '.join(self._values('', ''))}; files must be inside "
                "the directory",
            )
        return self.root / relative

    def _values(self, number: str, total: str) -> dict[str, str]:
        return {
            "DATASET": self.dataset,
            "SPLIT": self.split,
            "FILEFORMAT": "tfrecord",
            "SHARD_INDEX": number,
            "NUM_SHARDS": total,
            "SHARD_X_OF_Y": f"{number}-of-{total}",
        }

    def _filled(self, number: str, total: str) -> str:
        values = self._values(number, total)
        return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), self.template)

    def present(self) -> dict[int, dict[int, Path]]:
        """The files of the split that are there, however many shards they say there are: by that
        number, then by their own. Empty where the names do not say it."""
        name = self._filled("\0", "\1")
        if (
            name.count("\0") != 1
            or name.count("\1") != 1
            or "\0" in PurePosixPath(name).parent.name
        ):
            return {}
        pattern = (
            re.escape(name).replace("\0", r"(?P<index>\d{5,})").replace("\1", r"(?P<of>\d{5,})")
        )
        folder = self.root / PurePosixPath(name).parent
        groups: dict[int, dict[int, Path]] = {}
        for path in folder.iterdir() if folder.is_dir() else ():
            if match := re.fullmatch(pattern, path.relative_to(self.root).as_posix()):
                groups.setdefault(int(match["of"]), {})[int(match["index"])] = path
        return {of: dict(sorted(files.items())) for of, files in sorted(groups.items())}


def shard_numbers(index: int, of: int) -> tuple[str, str]:
    """Both numbers as in file names: five digits, or as many as the second needs."""
    digits = max(5, len(str(of)))
    return f"{index:0{digits}d}", f"{of:0{digits}d}"


def shards_of(naming: Naming, stated: Sequence[int]) -> tuple[tuple[Shard, ...], list[str]]:
    """The shards of a split of which `stated` are the lengths ([]: not stated), and what is worth
    saying about them. Raises `SourceError` where files and lengths cannot be brought together."""
    of = len(stated)
    naming.file(0, 1)  # refused before any directory is looked into
    named = tuple(Shard(naming.file(k, of), k, of, count) for k, count in enumerate(stated))
    present = naming.present()
    others = {number: files for number, files in present.items() if number != of}
    if not others:
        return named, []
    if of in present:
        return named, [
            f"split {naming.split!r} also has {len(files)} files numbered -of-{number:05d}: those "
            "of another build, which are not read"
            for number, files in others.items()
        ]
    if len(others) > 1:
        raise _disagree(naming, stated, others, {})
    ((number, files),) = others.items()
    counts = {index: framing_of(path).records for index, path in files.items()}
    return _counted(naming, stated, files, counts, number)


def _counted(
    naming: Naming, stated: Sequence[int], files: Mapping[int, Path], counts: Mapping[int, int],
    of: int,
) -> tuple[tuple[Shard, ...], list[str]]:  # fmt: skip
    """Shards by the files that are there and the records in them."""
    whole = bool(stated)  # all that was written is there, if it is as much as was stated
    if (whole and _filled(counts.values()) != _filled(stated)) or max(files) >= of:
        raise _disagree(naming, stated, {of: files}, counts)
    absent = [index for index in range(of) if index not in files]
    shards = tuple(
        Shard(naming.file(k, of), k, of, counts.get(k, 0), known=k in files or whole)
        for k in range(of)
    )
    total = f"{sum(counts.values()):,} episodes in {len(files)} files numbered -of-{of:05d}"
    if whole:
        return shards, [
            f"split {naming.split!r}: {INFO} states {len(stated)} shards, and these are {total}: "
            "the counts agree, so that is all of them"
        ]
    lacks = f"; not there: {_numbers(absent)}" if absent else ""
    return shards, [f"split {naming.split!r} has no shardLengths: counted {total}{lacks}"]


def _filled(counts: Iterable[int]) -> list[int]:
    """The counts that are not 0, in order of size."""
    return sorted(count for count in counts if count)


def _numbers(indices: Sequence[int]) -> str:
    shown = ", ".join(f"{index:05d}" for index in indices[:SHOWN])
    return f"{shown} and {len(indices) - SHOWN} more" if len(indices) > SHOWN else shown


def _disagree(
    naming: Naming, stated: Sequence[int], groups: Mapping[int, Mapping[int, Path]],
    counts: Mapping[int, int],
) -> SourceError:  # fmt: skip
    lengths = ", ".join(map(str, stated[:SHOWN])) + (" ..." if len(stated) > SHOWN else "")
    says = f"states {len(stated)} shards of {lengths} episodes" if stated else "states no shards"
    files = list(_described(groups, counts))
    there = ", ".join(files[:SHOWN]) + (f" and {len(files) - SHOWN} more" * (len(files) > SHOWN))
    return SourceError(
        f"{naming.root / INFO} {says} for the split {naming.split!r}, but the files there are "
        f"{there}",
        remedy="download the missing shards and remove those of another build, or correct "
        "shardLengths to what the files hold",
    )


def _described(
    groups: Mapping[int, Mapping[int, Path]], counts: Mapping[int, int]
) -> Iterator[str]:
    for files in groups.values():
        for index, path in files.items():
            holds = f" ({counts[index]} episodes)" if index in counts else ""
            yield f"{path.name}{holds}"
