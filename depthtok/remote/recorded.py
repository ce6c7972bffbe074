"""A location of which it is recorded what it was: whoever opens it gets these bytes or an error."""

from __future__ import annotations

from pathlib import Path

from depthtok.remote.location import Location


class RecordedLocation(Location):
    """An object with the size, etag and SHA-256 that it had; "" where one is not known."""

    size = 0
    etag = ""
    sha256 = ""

    @classmethod
    def of(cls, path: Path, size: int, etag: str = "", sha256: str = "") -> RecordedLocation:
        """The object at `path`, which had `size` bytes."""
        recorded = cls(str(path))
        recorded.size, recorded.etag, recorded.sha256 = size, etag, sha256
        return recorded

    def __reduce__(self) -> tuple:
        return RecordedLocation.of, (Location(str(self)), self.size, self.etag, self.sha256)

    @property
    def has_strong_etag(self) -> bool:
        """Whether its etag stands for its bytes: a weak one (`W/`) does not."""
        return is_strong(self.etag)

    def is_now(self) -> bool:
        """Whether the server says that it is the same still; False where only its bytes tell.
        Raises `SourceUnavailable`."""
        described = self.describe(fresh=False)
        same = (described.size, described.etag) == (self.size, self.etag)
        return same and self.has_strong_etag


def is_strong(etag: str) -> bool:
    """Whether two objects with this etag have the same bytes."""
    return bool(etag) and not etag.startswith("W/")
