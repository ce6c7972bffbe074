"""Which files are the shards of a split, and how many episodes each has.

`shardLengths` of dataset_info.json says how many shards there are, and the template how their files
are called. Where it is absent, or the files are numbered otherwise (builders with several workers
leave out empty shards), the files are counted, which reads 16 bytes a record. If that leaves doubt,
the error names the files that exist.
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

    `known` is false for a shard whose file is missing and whose number of episodes nothing states.
    """

    path: Path
    index: int
    of: int
    episodes: int
    known: bool = True

    @property
    def state(self) -> str:
        """ "there" if the file exists, "empty" if it does not and certainly has no episode, else
        "absent". Raises `SourceUnavailable` where the file system does not tell."""
        if status_of(self.path):
            return "there"
        return "empty" if self.known and not self.episodes else "absent"


def status_of(path: Path) -> os.stat_result | None:
    """The status of a file of the source; None if there certainly is no such file. Raises
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
        """The file of a shard. Raises `SourceError` if the template points outside the directory.

        Symbolic links are followed, because downloads are often links into a cache.
        """
        number, total = shard_numbers(index, of)
        name = self._file_name(number, total)
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

    def _file_name(self, number: str, total: str) -> str:
        values = self._values(number, total)
        return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), self.template)

    def present(self) -> dict[int, dict[int, Path]]:
        """The existing files of the split by the number of shards that their names state, then by
        index. Empty where the template does not contain both numbers."""
        name = self._file_name("\0", "\1")
        counts = [name.count(mark) for mark in "\0\1"]
        if counts != [1, 1] or "\0" in PurePosixPath(name).parent.name:
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
    """The shards of a split, and notes about them for people. `stated` are their lengths; [] if
    the data set states none. Raises `SourceError` where the files and the lengths contradict each
    other."""
    of = len(stated)
    naming.file(0, 1)  # an invalid template is refused before any directory is read
    shards = tuple(Shard(naming.file(k, of), k, of, count) for k, count in enumerate(stated))
    if len({shard.path for shard in shards}) < of:
        raise SourceError(
            f"{naming.root / INFO}: filepathTemplate {naming.template!r} gives all {of} shards of "
            f"the split {naming.split!r} one file",
            remedy="write {SHARD_X_OF_Y} into it, or one number in shardLengths",
        )
    present = naming.present()
    others = {number: files for number, files in present.items() if number != of}
    if not others:
        return shards, []
    if of in present:
        return shards, [
            f"split {naming.split!r} also has {len(files)} files numbered -of-{number:05d}: those "
            "of another build, which are not read"
            for number, files in others.items()
        ]
    if len(others) > 1:
        raise _mismatch_error(naming, stated, others, {})
    ((number, files),) = others.items()
    return _shards_by_files(naming, stated, files, number)


def _shards_by_files(
    naming: Naming, stated: Sequence[int], files: Mapping[int, Path], of: int
) -> tuple[tuple[Shard, ...], list[str]]:
    """The `of` shards by their files that exist and the records in them, and what to say of it.
    Raises `SourceError` where the lengths `stated` are others."""
    counts = {index: framing_of(path).records for index, path in files.items()}
    complete = bool(stated)  # all that was written is there, if it is as much as was stated
    if (complete and _nonzero(counts.values()) != _nonzero(stated)) or max(files) >= of:
        raise _mismatch_error(naming, stated, {of: files}, counts)
    absent = [index for index in range(of) if index not in files]
    shards = tuple(
        Shard(naming.file(k, of), k, of, counts.get(k, 0), known=k in files or complete)
        for k in range(of)
    )
    total = f"{sum(counts.values()):,} episodes in {len(files)} files numbered -of-{of:05d}"
    if complete:
        return shards, [
            f"split {naming.split!r}: {INFO} states {len(stated)} shards, and these are {total}: "
            "the counts agree, so that is all of them"
        ]
    missing = f"; not there: {_listed_numbers(absent)}" if absent else ""
    return shards, [f"split {naming.split!r} has no shardLengths: counted {total}{missing}"]


def _nonzero(counts: Iterable[int]) -> list[int]:
    """The counts that are not 0, in order of size."""
    return sorted(count for count in counts if count)


def _listed_numbers(indices: Sequence[int]) -> str:
    shown = ", ".join(f"{index:05d}" for index in indices[:SHOWN])
    return f"{shown} and {len(indices) - SHOWN} more" if len(indices) > SHOWN else shown


def _mismatch_error(
    naming: Naming,
    stated: Sequence[int],
    groups: Mapping[int, Mapping[int, Path]],
    counts: Mapping[int, int],
) -> SourceError:
    """The error for lengths that differ from the files: `groups` of them by how many shards their
    names state; `counts` are the episodes of those that were counted."""
    lengths = ", ".join(map(str, stated[:SHOWN])) + (" ..." if len(stated) > SHOWN else "")
    description = (
        f"states {len(stated)} shards of {lengths} episodes" if stated else "states no shards"
    )
    files = list(_file_descriptions(groups, counts))
    listing = ", ".join(files[:SHOWN]) + (f" and {len(files) - SHOWN} more" * (len(files) > SHOWN))
    return SourceError(
        f"{naming.root / INFO} {description} for the split {naming.split!r}, but the files there "
        f"are {listing}",
        remedy="download the missing shards and remove those of another build, or correct "
        "shardLengths to what the files hold",
    )


def _file_descriptions(
    groups: Mapping[int, Mapping[int, Path]], counts: Mapping[int, int]
) -> Iterator[str]:
    for files in groups.values():
        for index, path in files.items():
            contents = f" ({counts[index]} episodes)" if index in counts else ""
            yield f"{path.name}{contents}"
