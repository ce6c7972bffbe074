"""The files in which the frames of a part of an EpisodeStore lie, and how large they were.

The meta of a part names one shard (`source`; null: `images.bin` of the part itself), or, for frames
that are not read as spans of bytes, all `files` in the order of their numbers in the index.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt32

from depthtok.disk.bytes_of import local_file
from depthtok.disk.digests import REPAIR, file_sha256
from depthtok.disk.regular import reading
from depthtok.errors import CorruptPart, as_type, as_written
from depthtok.frames.kinds import SPANS, file_numbers
from depthtok.json_values import as_list
from depthtok.remote.location import Location, located
from depthtok.remote.recorded import RecordedLocation
from depthtok.stores.manifest import MANIFEST
from depthtok.stores.origin import MADE_FROM
from depthtok.stores.parts import Part
from depthtok.stores.stored_episode import View

PACKED = "images.bin"
FILES = "files"

SizedFile = tuple[Path, int | None]
"""A file, and its size in bytes when it was indexed: None where that is not known, or is the
store's own matter."""


def span_file(part: Part, root: Path) -> Path:
    """The one file in which the spans of a part lie. Raises `CorruptPart`."""
    source = part.meta.get("source", 0)
    if not (source is None or isinstance(source, str)):
        raise CorruptPart(f"{part.path / MANIFEST} names no file of images", remedy=REPAIR)
    return part.path / PACKED if source is None else root / source


def numbered_files(part: Part, root: Path) -> list[SizedFile]:
    """The files of a part by number; those elsewhere know what they were. Raises `CorruptPart`
    where it has none."""
    with as_written(part.path / MANIFEST, REPAIR):
        names = [as_type(str, name) for name in as_list(part.meta[FILES])]
        recorded, unknown = part.meta[MADE_FROM], [""] * len(names)
        sizes = [as_type(int, size) for size in as_list(recorded["sizes"])]
        etags = [as_type(str, etag) for etag in as_list(recorded.get("etags", unknown))]
        digests = [as_type(str, digest) for digest in as_list(recorded.get("sha256", unknown))]
        paths = [root / name for name in names]
        if isinstance(root, Location):
            paths = list(map(RecordedLocation.of, paths, sizes, etags, digests))
        return list(zip(paths, sizes, strict=True))


def files_of(part: Part, root: Path, view: View) -> tuple[Path, ...]:
    """The files that rows of a view speak of."""
    if view.frames_by.name == SPANS:
        return (span_file(part, root),)
    return tuple(path for path, _ in numbered_files(part, root))


def sized_files(part: Part, root: Path, views: Sequence[View]) -> list[SizedFile]:
    """All files in which frames of a part lie."""
    files: list[SizedFile] = []
    kinds = {view.frames_by.name for view in views}
    if SPANS in kinds:
        made_from = part.meta.get(MADE_FROM)
        size = made_from["size"] if made_from and part.meta["source"] is not None else None
        files.append((span_file(part, root), size))
    return files + numbered_files(part, root) if kinds - {SPANS} else files


def files_with(
    part: Part,
    root: Path,
    views: Sequence[View],
    rows: Callable[[], UInt32[np.ndarray, "n v 4"]],
) -> list[SizedFile]:
    """Those of them in which some frames of these views lie. `rows` gives theirs in the index, and
    is only called where there are several files."""
    files = sized_files(part, root, [view for view in views if view.frames_by.name == SPANS])
    numbered = [number for number, view in enumerate(views) if view.frames_by.name != SPANS]
    if numbered:
        by_number = numbered_files(part, root)
        chosen = np.unique(file_numbers(rows()[:, numbered].reshape(-1, 4)))
        files += [by_number[number] for number in chosen.tolist()]
    return files


def digest_of(paths: Sequence[Path]) -> str:
    """One digest of all bytes of the files, in their order. Raises `SourceUnavailable`."""
    return _together([file_sha256(path) for path in paths])


def _together(digests: Sequence[str]) -> str:
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def made_from(paths: Sequence[Path]) -> dict[str, object]:
    """What a part records of its files; of those elsewhere their etags and digests too. Raises
    `SourceUnavailable`."""
    sizes = []
    for path in paths:
        with local_file(path) as file, reading(path):
            sizes.append(file.stat().st_size)
    digests = [
        path.sha256 if isinstance(path, RecordedLocation) else file_sha256(path) for path in paths
    ]
    record = {"size": sum(sizes), "sizes": sizes, "digest": _together(digests)}
    etags = [path.etag for path in paths if isinstance(path, RecordedLocation)]
    return {**record, "etags": etags, "sha256": digests} if etags else record


def clearly_same(part: Part, root: Path) -> bool:
    """Whether the servers say that the files of a part are what they were, so that they need not be
    read; False for files on a disk. Raises `SourceUnavailable`."""
    paths = [path for path, _ in numbered_files(part, root)]
    return all(isinstance(path, RecordedLocation) and path.is_now() for path in paths)


def differs(part: Part, root: Path) -> str:
    """How the files of a part differ from those that it was made from; "" where they do not. Reads
    them. Raises `SourceUnavailable` where one is not there."""
    if clearly_same(part, root):
        return ""
    paths = []
    for path, size in numbered_files(part, root):
        with reading(path):
            if path.stat().st_size != size:
                return f"{path} has {path.stat().st_size:,} bytes, not {size:,}"
        paths.append(located(str(path)))  # what is there now
    same = digest_of(paths) == part.meta[MADE_FROM]["digest"]
    return "" if same else f"{paths[0]}, or one of its videos, has other bytes"
