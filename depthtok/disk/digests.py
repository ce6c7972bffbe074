"""Whether files have the bytes that were written: their digests."""

from __future__ import annotations

import hashlib
from pathlib import Path

from depthtok.disk.bytes_of import local_file
from depthtok.disk.regular import reading, require_file, require_given
from depthtok.errors import CorruptPart

REPAIR = (
    "`depthtok verify STORE --repair` drops the bad parts; the command that made the store then "
    "makes just those again"
)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex. Raises `SourceUnavailable` for one that is not given."""
    with local_file(path) as local:
        require_file(local)
        with reading(path), local.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


class DigestMemory:
    """Remembers which files were found to have which digest, by inode, size and time of change."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int, int, int], str] = {}

    def require(self, path: Path, sha256: str, size: int) -> None:
        """Raises `CorruptPart` unless the file has these bytes; reads it at most once."""
        try:
            status = path.stat()
        except OSError as error:
            require_given(path, error)
            raise CorruptPart(f"{path} is missing", remedy=REPAIR) from error
        if status.st_size != size:
            raise CorruptPart(
                f"{path} has {status.st_size} bytes, its manifest says {size}", remedy=REPAIR
            )
        identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if identity not in self._known:
            self._known[identity] = file_sha256(path)
        if self._known[identity] != sha256:
            raise CorruptPart(f"{path} has other bytes than its manifest says", remedy=REPAIR)
