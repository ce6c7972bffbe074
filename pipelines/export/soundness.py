"""Whether an export has the files that were written: their sizes and digests are in its record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from depthtok.disk.digests import file_sha256
from depthtok.errors import SourceUnavailable, as_type, as_written
from depthtok.json_values import as_list, value_of
from depthtok.sources.features import read_json
from depthtok.stores.verify import Finding


def findings(path: Path, record: Path) -> Iterator[Finding]:
    """What is not as it was exported. Raises `CorruptPart` for a record that depthtok did not
    write."""
    with as_written(record, "export again, into another --out"):
        files = value_of(read_json(record), "files", dict)
        listed = {
            as_type(str, name): (as_type(int, size), as_type(str, sha256))
            for name, entry in files.items()
            for size, sha256 in [as_list(entry)]
        }
    for name, (size, sha256) in sorted(listed.items()):
        if problem := _problem(path / name, size, sha256):
            yield Finding(problem)


def _problem(file: Path, size: int, sha256: str) -> str:
    """What is wrong with a file; "" where nothing is."""
    if not file.is_file():
        return f"{file} is missing"
    if file.stat().st_size != size:
        return f"{file} has {file.stat().st_size:,} bytes, {size:,} were exported"
    try:
        same = file_sha256(file) == sha256
    except SourceUnavailable as error:
        return error.problem
    return "" if same else f"{file} has other bytes than were exported"
