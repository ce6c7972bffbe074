"""Zip files (.npz, .pt) that carry a digest of themselves, as the archive's comment.

Zip has checksums of its members alone, and readers ignore most of the rest. The comment is the
last thing in the file: 64 hex digits, the SHA-256 of all bytes before them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

from depthtok.disk.regular import require_given
from depthtok.errors import CorruptPart

_DIGITS = 64
_END = b"PK\x05\x06"  # begins the record at the end, 22 bytes with the length of the comment


def seal(path: Path) -> None:
    """Adds the digest to a zip file without a comment, in place: seal before committing."""
    with path.open("r+b") as file:
        file.seek(-22, 2)
        assert file.read(4) == _END, f"{path} is not a zip file, or has a comment"
        file.seek(-2, 2)
        file.write(_DIGITS.to_bytes(2, "little"))
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0, 2)
        file.write(digest.encode())


def require_sound(path: Path, remedy: str) -> bool:
    """Raises `CorruptPart` for a file that was changed after it was sealed, or that is no zip file.
    Returns whether it was sealed: files of older versions are not."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 22 - _DIGITS))
            end = file.read()
            if end[:4] == _END and end[20:22] == _DIGITS.to_bytes(2, "little"):
                if _sha256(file, size - _DIGITS) == end[22:]:
                    return True
            elif end[-22:-18] == _END and end[-2:] == b"\0\0":
                return False
    except OSError as error:
        require_given(path, error)
        raise CorruptPart(f"{path} cannot be read: {error.strerror}", remedy=remedy) from error
    raise CorruptPart(f"{path} was changed after it was written", remedy=remedy)


def _sha256(file: BinaryIO, size: int) -> bytes:
    """The digest, in hex, of the first `size` bytes."""
    digest = hashlib.sha256()
    file.seek(0)
    while size > 0 and (block := file.read(min(size, 1 << 20))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest().encode()
