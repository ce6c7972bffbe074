"""The schema files in the package, as text: `Schema` parses those it needs."""

from __future__ import annotations

from importlib import resources


def shipped_schemas() -> list[tuple[str, str]]:
    """Name and text of every schema in the package, sorted by name."""
    files = sorted(
        resources.files("depthtok.sources.schemas").iterdir(), key=lambda file: file.name
    )
    return [
        (file.name.removesuffix(".toml"), file.read_text("utf-8"))
        for file in files
        if file.name.endswith(".toml")
    ]
