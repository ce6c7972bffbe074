"""What a copy elsewhere holds: one object, `store.json`, that is written last.

    URL/store.json                            root, parts, and the small files beside them
    URL/parts/<part>.<digest>.zip             one part (`packed.py`)

A store elsewhere is what its `store.json` names; objects that it does not name do not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from depthtok.errors import CorruptPart, StoreError, as_type, as_written
from depthtok.json_values import value_of
from depthtok.remote.location import Location
from depthtok.stores.manifest import pack_manifest, unpack_manifest
from depthtok.stores.parts import PartName
from depthtok.stores.spec import COPY, ROOT, SEEN, StoreSpec, parse_spec

FORMAT = 1
REMEDY = "run the `depthtok copy` again that made it"


@dataclass(frozen=True)
class Packed:
    """A part elsewhere: its object's name, the bytes of that, and the digest of its manifest."""

    file: str
    size: int
    digest: str


@dataclass(frozen=True)
class Contents:
    """A store elsewhere. `root` is its `zarr.json`, `files` are the texts of those beside it."""

    root: str
    parts: Mapping[str, Packed]
    files: Mapping[str, str]

    @property
    def spec(self) -> StoreSpec:
        """What the store is."""
        return parse_spec(self.root, Path(ROOT))

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(part.size for part in self.parts.values())

    def to_bytes(self) -> bytes:
        """As it is written."""
        parts = {name: asdict(part) for name, part in self.parts.items()}
        content = {"format": FORMAT, "root": self.root, "parts": parts, "files": dict(self.files)}
        return pack_manifest(content)

    @classmethod
    def read(cls, url: Location) -> Contents | None:
        """What lies at a URL; None where no store is complete there. Raises `CorruptPart`,
        `StoreError` and `SourceUnavailable`."""
        file_url = url.below(COPY)
        try:
            data = file_url.read_bytes()
        except FileNotFoundError:
            return None
        content, _ = unpack_manifest(data, file_url)
        if content.get("format") != FORMAT:
            raise StoreError(
                f"{file_url} has format {content.get('format')}, this depthtok reads {FORMAT}",
                remedy="use the version of depthtok that wrote it",
            )
        with as_written(file_url, REMEDY):
            texts = {k: as_type(str, v) for k, v in value_of(content, "files", dict).items()}
            parts = {name: Packed(**p) for name, p in value_of(content, "parts", dict).items()}
            for name, packed in parts.items():
                PartName.of(name)
                _ = [as_type(str, text) for text in (packed.file, packed.digest)]
                as_type(int, packed.size)
                if packed.file.startswith("/") or ".." in packed.file.split("/"):
                    raise ValueError(f"{packed.file} lies outside")
            if any("/" in name or name.startswith(".") for name in texts):
                raise ValueError("a file lies outside")
            return cls(value_of(content, "root", str), parts, texts)


def texts_beside(store: Path) -> dict[str, str]:
    """The files beside a store's root, such as statistics. Raises `CorruptPart`."""
    texts: dict[str, str] = {}
    for path in sorted(store.iterdir()):
        if path.is_file() and path.name not in (ROOT, SEEN) and not path.name.startswith("."):
            try:
                texts[path.name] = path.read_text()
            except UnicodeDecodeError as error:
                raise CorruptPart(
                    f"{path} is no file of a store", remedy="move it elsewhere"
                ) from error
    return texts
