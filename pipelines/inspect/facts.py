"""What `inspect` says of a directory, whatever it is: facts, tables, and text for the end."""

from __future__ import annotations

from dataclasses import dataclass, field

Tables = dict[str, tuple[tuple[str, ...], list[tuple]]]
"""Columns and rows by title."""


@dataclass
class Summary:
    """What is said of a directory: facts in order, tables, and free text for the end."""

    title: str
    facts: dict[str, object] = field(default_factory=dict)
    tables: Tables = field(default_factory=dict)
    text: str = ""

    def lines(self) -> list[str]:
        """For a terminal."""
        width = max((len(name) for name in self.facts), default=0)
        lines = [self.title, *(f"  {name:<{width}}  {value}" for name, value in self.facts.items())]
        for title, (columns, rows) in self.tables.items():
            lines += ["", title, *_aligned([columns, *rows])]
        return [*lines, "", self.text] if self.text else lines


def _aligned(rows: list[tuple]) -> list[str]:
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return [
        "  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
        for row in texts
    ]
