"""Whether a Matroska or WebM file was cut short, by the sizes that it states of its clusters.

A file is a sequence of elements, (number, size, content) each; the clusters lie in the content of
the segment. Only numbers and sizes are read.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from depthtok.disk.regular import reading

_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675


def breaks_off(path: Path) -> bool:
    """Whether a cluster of frames states more bytes than the file has. A live stream, which states
    no sizes, does not. Raises `SourceUnavailable`."""
    with reading(path), path.open("rb") as file:
        end, position = path.stat().st_size, 0
        while position < end:
            file.seek(position)
            number, size = _number(file, marked=True), _number(file, marked=False)
            if size is None or number is None:
                return False
            content = file.tell()
            if number == _CLUSTER and content + size > end:
                return True
            position = content if number == _SEGMENT else content + size
    return False


def _number(file: BinaryIO, *, marked: bool) -> int | None:
    """The next number, of one to eight bytes: the zeros that the first begins with say how many.
    None at the end of the file and for "unknown" (all ones). With `marked` the bit after these
    zeros is a part of the number, as in those of elements."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(length - 1))
    if marked:
        return value
    value &= (1 << 7 * length) - 1
    return None if value == (1 << 7 * length) - 1 else value
