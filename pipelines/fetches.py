"""What a stage would fetch over a network: bytes and requests, for `--plan`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from depthtok.format import human_bytes, human_count
from depthtok.remote.location import Location
from depthtok.sources.shards import status_of
from pipelines.stage import WorkPart


@dataclass(frozen=True)
class Fetches:
    """`later`: whether frames stay where they are, to be fetched again by whatever reads them."""

    source: str
    bytes: int
    requests: int
    later: bool

    def lines(self) -> list[str]:
        """The same in words."""
        size, count = human_bytes(self.bytes), human_count(self.requests)
        lines = [f"  about {size} to fetch from {self.source}, by {count} requests"]
        if self.later:
            lines.append(
                "  frames stay there, and are fetched when they are read; --copy-images packs them "
                "here"
            )
        return lines


@runtime_checkable
class Fetching(Protocol):
    """A stage whose source may lie elsewhere."""

    def fetches(self, parts: Sequence[WorkPart]) -> Fetches | None:
        """What making these parts would fetch; None where all is on this machine."""
        ...


def of_files(root: Path, files: Iterable[Path], *, later: bool) -> Fetches | None:
    """What reading these files from their beginning to their end would fetch."""
    if not isinstance(root, Location):
        return None
    sizes = [status.st_size for path in files if (status := status_of(path))]
    block = root.limits.stream_bytes
    return Fetches(str(root), sum(sizes), sum(1 + -(-size // block) for size in sizes), later)
