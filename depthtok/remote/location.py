"""Paths of what lies elsewhere: `s3://bucket/folder/file` with the methods of `pathlib.Path`.

The code that reads data sets works on paths; a `Location` is one whose bytes come over a network.
It cannot be opened by its name (`os.open` finds nothing); `depthtok.disk.bytes_of` reads both.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import stat
import time
from collections import Counter
from collections.abc import Generator, Sequence
from pathlib import Path, PosixPath

from depthtok.errors import ConfigError, SourceUnavailable
from depthtok.remote.errors import Missing
from depthtok.remote.limits import Limits
from depthtok.remote.objects import SCHEMES, Described, Objects, objects_of
from depthtok.remote.repository import DATASET, FOLDERS, Repository
from depthtok.remote.retrying import persistently

_SCHEME = re.compile(rf"(file):/{{1,3}}(?=[^/])|({'|'.join(SCHEMES)}):/{{1,2}}(?=[^/])")
FRESH_S = 30.0  # how long what a listing says of objects is taken for true
_listed: dict[str, tuple[float, dict[str, Described]]] = {}  # by folder


class Location(PosixPath):
    """An object, or a folder of objects, by its URL."""

    def __str__(self) -> str:
        return _SCHEME.sub(
            lambda match: "file:///" if match[1] else f"{match[2]}://", super().__str__(), count=1
        )

    def __fspath__(self) -> str:
        return str(self)

    def __repr__(self) -> str:
        return f"Location({str(self)!r})"

    def __reduce__(self) -> tuple[type[Location], tuple[str]]:
        return Location, (str(self),)

    def as_posix(self) -> str:
        return str(self)

    @property
    def scheme(self) -> str:
        """`s3`, `https`, ..."""
        return self.parts[0].rstrip(":")

    @property
    def _depth(self) -> int:
        """How many parts name the bucket, the host, or the repository with its kind."""
        if self.scheme == "hf":
            return 4 if self.parts[1:2] and self.parts[1] in FOLDERS else 3
        return 1 if self.scheme == "file" else 2

    @property
    def bucket(self) -> str:
        """The bucket, host, or repository."""
        return "/".join(self.parts[1 : self._depth])

    @property
    def key(self) -> str:
        """The name in the bucket."""
        return "/".join(self.parts[self._depth :])

    def below(self, name: str) -> Location:
        """What lies below it under this name."""
        return self._with_key(f"{self.key}/{name}" if self.key else name)

    def _with_key(self, key: str) -> Location:
        return Location(f"{self.scheme}://{self.bucket}/{key}")

    @property
    def pinned(self) -> str:
        """The URL; on the Hub with the commit that is read, which names the same bytes for ever."""
        return str(self.at_revision)

    @property
    def lists(self) -> bool:
        """Whether its folders can be listed."""
        return self.scheme not in ("http", "https")

    @property
    def at_revision(self) -> Location:
        """The same in the commit that its revision means now; itself where there are no commits.
        Raises `SourceUnavailable`."""
        if self.scheme != "hf":
            return self
        revision = persistently(lambda: self.objects.revision, self, self.limits)
        repository = Repository.parse(f"hf://{self.bucket}", DATASET)
        assert repository is not None  # or it would not have been opened
        # The kind is said: what `Repository.url` leaves out is a model, what we leave out is data.
        root = f"hf://{repository.kind}s/{repository.name}@{revision}"
        return Location(f"{root}/{self.key}" if self.key else root)

    @property
    def limits(self) -> Limits:
        """The limits of this process."""
        return Limits.from_environment()

    @property
    def objects(self) -> Objects:
        """The objects of its bucket."""
        return objects_of(self.scheme, self.bucket, self.limits)

    def describe(self, *, fresh: bool = True) -> Described:
        """Size and etag. Raises `Missing` and `SourceUnavailable`. Not `fresh`: what its folder's
        listing said a moment ago will do."""
        when, entries = _listed.get(str(self.parent), (0.0, {}))
        if not fresh and time.monotonic() - when < FRESH_S and self.name in entries:
            return entries[self.name]
        return persistently(lambda: self.objects.describe(self.key), self, self.limits)

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """As of a file: the etag stands in for inode and time of change. Raises `OSError`."""
        if not _SCHEME.match(str(self)):
            return super().stat()  # the rest of a location, by itself
        try:
            described = self.describe(fresh=False)
        except Missing as error:
            raise FileNotFoundError(f"{self} is not there") from error
        number = int.from_bytes(hashlib.sha256(described.etag.encode()).digest()[:7], "big")
        seconds = described.modified_ns // 10**9
        mode = stat.S_IFREG | 0o444
        ages = (seconds, seconds, seconds)
        times = (described.modified_ns, described.modified_ns, number)
        return os.stat_result((mode, number, 0, 1, 0, 0, described.size, *ages, *ages, *times))

    def exists(self) -> bool:
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        if not self.lists:
            return False
        try:
            folders, objects = self.listing()
        except Missing:
            return False
        return bool(folders or objects)

    def listing(self) -> tuple[Sequence[str], Sequence[Described]]:
        """Names of folders, and objects, directly below. Raises `SourceUnavailable`."""
        folders, objects = persistently(lambda: self.objects.folder(self.key), self, self.limits)
        entries = {described.name.rpartition("/")[2]: described for described in objects}
        _listed[str(self)] = time.monotonic(), entries
        return folders, objects

    def iterdir(self) -> Generator[Location, None, None]:
        folders, objects = self.listing()
        names = [*folders, *(described.name for described in objects)]
        return (self._with_key(name) for name in names)

    def glob(self, pattern: str) -> Generator[Location, None, None]:
        first, _, rest = pattern.partition("/")
        for path in self.iterdir():
            if fnmatch.fnmatch(path.name, first):
                if not rest:
                    yield path
                elif not path.suffix or path.is_dir():
                    yield from path.glob(rest)

    def resolve(self, strict: bool = False) -> Location:
        return self

    def absolute(self) -> Location:
        return self

    def read_bytes(self) -> bytes:
        """All bytes of one object. Raises `FileNotFoundError` and `SourceUnavailable`."""
        try:
            described = self.describe()
        except Missing as error:
            raise FileNotFoundError(2, "it is not there", str(self)) from error
        return self.read_range(0, described.size, described.etag)

    def read_range(self, start: int, stop: int, etag: str = "") -> bytes:
        """Exactly these bytes. Raises `SourceUnavailable`, where the etag is another one too."""
        return bytes(self.view_range(start, stop, etag))

    def view_range(self, start: int, stop: int, etag: str = "") -> memoryview:
        """The same as they came, without a copy."""

        def attempt() -> memoryview:
            return self.objects.read(self.key, start, stop, etag)

        return persistently(attempt, self, self.limits)

    def put(self, data: bytes) -> None:
        """Makes the object of these bytes, whole or not at all. Raises `SourceUnavailable`."""
        self._write(data)

    def write_from(self, file: Path) -> None:
        """Makes the object of a file's bytes, whole or not at all. Raises `SourceUnavailable`."""
        self._write(file)
        size = self.describe().size
        if size != file.stat().st_size:
            raise SourceUnavailable(
                f"{self} has {size:,} bytes after {file.stat().st_size:,} were written",
                remedy="run the same command again",
            )

    def _write(self, data: bytes | Path) -> None:
        persistently(lambda: self.objects.write(self.key, data), self, self.limits)
        _listed.pop(str(self.parent), None)


def located(path: str | Path) -> Path:
    """The path itself, or the `Location` where it is a URL; `pathlib` may have taken one of its
    slashes. Raises `ConfigError` for a URL that carries credentials."""
    text = str(path)
    if isinstance(path, Location) or not (scheme := _SCHEME.match(text)):
        return Path(path) if isinstance(path, str) else path
    name, rest = scheme[1] or scheme[2], text[scheme.end() :]
    if name == "file":
        return Location(f"file://{rest}")
    host = rest.partition("/")[0]
    if ("@" in host and name != "hf") or "?" in rest or "#" in rest:
        raise ConfigError(
            f"the {name}:// URL at {host.rpartition('@')[2].partition('?')[0]} has a user, a "
            "query or a fragment",
            remedy="give the URL alone, and credentials by the environment: what is in a URL ends "
            "up in stores and logs",
        )
    location = Location(f"{name}://{rest}")
    if len(location.parts) < location._depth:
        raise ConfigError(f"{text} is not whole", remedy="give hf://datasets/OWNER/NAME")
    return location


def is_remote(path: str | Path) -> bool:
    """Whether this is a URL of a kind that is known."""
    return isinstance(path, Location) or bool(_SCHEME.match(str(path)))


def require_local(path: Path, what: str) -> None:
    """Raises `ConfigError` for a URL where only a directory of this machine will do."""
    if is_remote(path):
        raise ConfigError(
            f"{what} cannot be {located(path)}",
            remedy="give a local directory; `depthtok copy STORE URL` brings it there",
        )


def list_folders(paths: Sequence[Path]) -> None:
    """Asks once for the listing of each folder with several of these paths, so that their sizes
    and etags are known without a request for each. Raises `SourceUnavailable`."""
    folders = Counter(path.parent for path in paths if isinstance(path, Location) and path.lists)
    for folder, count in folders.items():
        age = time.monotonic() - _listed.get(str(folder), (-FRESH_S, {}))[0]
        if count > 1 and isinstance(folder, Location) and age > FRESH_S / 2:
            folder.listing()
