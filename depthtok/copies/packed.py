"""A part as one object: an uncompressed zip of its files, the same bytes for the same part.

The name of the object has the digest of the part's manifest, which has the digests of all files. So
an object never changes, and what it must hold can be checked wherever it lies.
"""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from pathlib import Path

from depthtok.disk.digests import file_sha256
from depthtok.errors import CorruptPart
from depthtok.stores.manifest import MANIFEST, unpack_manifest
from depthtok.stores.parts import Part

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can tell
_FIRST, _AGAIN, _END = 30, 46, 22  # bytes of zip around a file, in its directory, and at the end
_LARGE = 1 << 31  # bytes, from which on a zip has other headers
BLOCK = 1 << 20
COPY_AGAIN = "delete that object and run the `depthtok copy` again that made it"


def object_name(part: Part) -> str:
    """The name of a part's object, below the store."""
    return f"parts/{part.name}.{part.digest[:16]}.zip"


def packed_size(part: Part) -> int | None:
    """The size of a part's object, without reading the part; None where it is too large to tell."""
    sizes = {name: size for name, (size, _) in part.manifest["files"].items()}
    sizes[MANIFEST] = (part.path / MANIFEST).stat().st_size
    total = sum(_FIRST + _AGAIN + 2 * len(n.encode()) + size for n, size in sizes.items()) + _END
    return total if total < _LARGE and len(sizes) < 1 << 15 else None


def pack(part: Part, file: Path) -> None:
    """Writes a part's object, its manifest last. Raises `CorruptPart` for bytes that are not those
    of the manifest."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, (size, sha256) in sorted(part.manifest["files"].items()):
            digest = _add(archive, part.path / name, name)
            if digest != sha256 or (part.path / name).stat().st_size != size:
                raise _damaged(part.path / name)
        _add(archive, part.path / MANIFEST, MANIFEST)


def duplicate(part: Part, directory: Path) -> None:
    """Copies a part's files into a directory. Raises `CorruptPart` as `pack` does."""
    for name, (_, sha256) in part.manifest["files"].items():
        digest = hashlib.sha256()
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        with (part.path / name).open("rb") as source, (directory / name).open("wb") as target:
            while block := source.read(BLOCK):
                digest.update(block)
                target.write(block)
        if digest.hexdigest() != sha256:
            raise _damaged(part.path / name)
    shutil.copyfile(part.path / MANIFEST, directory / MANIFEST)


def _damaged(path: Path) -> CorruptPart:
    return CorruptPart(
        f"{path} has other bytes than its manifest says",
        remedy="`depthtok verify STORE --repair` drops the part; nothing was copied of it",
    )


def _add(archive: zipfile.ZipFile, path: Path, name: str) -> str:
    """Adds a file; returns its SHA-256."""
    entry, digest = zipfile.ZipInfo(name, _EPOCH), hashlib.sha256()
    entry.external_attr = 0o644 << 16
    entry.file_size = path.stat().st_size
    with path.open("rb") as source, archive.open(entry, "w") as target:
        while block := source.read(BLOCK):
            digest.update(block)
            target.write(block)
    return digest.hexdigest()


def unpack(file: Path, directory: Path, digest: str, source: object) -> None:
    """Fills a directory with the part of an object, and checks every byte: the manifest by
    `digest`, the files by the manifest. Raises `CorruptPart`, which names `source`."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            content, manifest_digest = unpack_manifest(archive.read(MANIFEST), file)
            if manifest_digest != digest or sorted(names) != sorted([*content["files"], MANIFEST]):
                raise ValueError("it holds another part")
            for name in names:
                target = directory / name
                if not target.resolve().is_relative_to(directory.resolve()):
                    raise ValueError(f"{name} lies outside")
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as packed, target.open("wb") as out:
                    shutil.copyfileobj(packed, out, BLOCK)
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError, CorruptPart) as error:
        problem = f"{source} is not the part that was copied ({error})"
        raise CorruptPart(problem, remedy=COPY_AGAIN) from error
    for name, (size, sha256) in content["files"].items():
        path = directory / name
        if path.stat().st_size != size or file_sha256(path) != sha256:
            raise CorruptPart(
                f"{source}: {name} has other bytes than its manifest says", remedy=COPY_AGAIN
            )
