"""Settings by name: TOML files in a folder of a package, or a file of one's own."""

from __future__ import annotations

from pathlib import Path

from depthtok.required import one_of

FILES = (".toml", ".json")


def names(folder: Path) -> list[str]:
    """The names that a folder has settings for, sorted."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def file_of(folder: Path, name: str, kind: str = "preset") -> Path:
    """The file of a name in the folder, or of a name that ends like a file: that one, there or not.

    Raises `ConfigError` for another name, with the nearest that there is; `kind` says of what.
    """
    if name.endswith(FILES):
        return Path(name)
    one_of(kind, name, names(folder))
    return folder / f"{name}.toml"
