"""The attention masks as tables, documentation and code at once.

A row is a block of query tokens, a column a block of keys. `x`: every token of the block; `\\`:
tokens up to and including the query's own position in the sequence image, text, depth, proprio,
action; `.`: none. Padding is never attended to, whatever the table says.
"""

# B batch, T query tokens, S key tokens

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from depthtok.errors import ConfigError, did_you_mean

BLOCKS = ("image", "text", "depth", "proprio", "action")
PADDED = "text"  # the only block with padding

SEES: Mapping[str, str] = {
    # The paper's hybrid mask, read literally: image and text stay within their own modality.
    "qdepth": r"""
                image  text  depth  proprio  action
        image     x     .      .       .       .
        text      .     x      .       .       .
        depth     x     x      x       .       .
        proprio   x     x      .       x       .
        action    x     x      x       x       x
    """,
    # The same with PaliGemma's bidirectional prefix, as in open-pi-zero.
    "prefix": r"""
                image  text  depth  proprio  action
        image     x     x      .       .       .
        text      x     x      .       .       .
        depth     x     x      x       .       .
        proprio   x     x      .       x       .
        action    x     x      x       x       x
    """,
    # Between the two: text sees the image.
    "text-sees-image": r"""
                image  text  depth  proprio  action
        image     x     .      .       .       .
        text      x     x      .       .       .
        depth     x     x      x       .       .
        proprio   x     x      .       x       .
        action    x     x      x       x       x
    """,
    # Between the two: the image sees the text.
    "image-sees-text": r"""
                image  text  depth  proprio  action
        image     x     x      .       .       .
        text      .     x      .       .       .
        depth     x     x      x       .       .
        proprio   x     x      .       x       .
        action    x     x      x       x       x
    """,
    # The ablation: one causal sequence.
    "causal": r"""
                image  text  depth  proprio  action
        image     \     .      .       .       .
        text      \     \      .       .       .
        depth     \     \      \       .       .
        proprio   \     \      \       \       .
        action    \     \      \       \       \
    """,
}


@dataclass(frozen=True)
class SeesTable:
    """One attention mask. `cells[query][key]` is 'x', '\\\\' or '.'."""

    cells: Mapping[str, Mapping[str, str]]

    @classmethod
    def named(cls, name: str, action_sees_depth: bool = True) -> SeesTable:
        """A table of `SEES`; optionally with depth hidden from actions, and from proprio, which
        would pass it on to them. Raises `ConfigError` for an unknown name."""
        if name not in SEES:
            raise ConfigError(f"no mask {name!r}", remedy=did_you_mean(name, list(SEES)))
        table = cls.parse(SEES[name])
        if action_sees_depth:
            return table
        return table.hiding("action", "depth").hiding("proprio", "depth")

    @classmethod
    def parse(cls, picture: str) -> SeesTable:
        """A table from its text drawing, in the format of `SEES`. Raises `ConfigError` for another
        one, and where a block does not see itself."""
        head, *rows = (line.split() for line in picture.strip().splitlines())
        cells = {name: dict(zip(head, marks, strict=True)) for name, *marks in rows}
        if set(head) != set(BLOCKS) or set(cells) != set(BLOCKS):
            raise ConfigError(f"a mask must have the rows and columns {', '.join(BLOCKS)}")
        if any(mark not in "x\\." for row in cells.values() for mark in row.values()):
            raise ConfigError("a mask may only contain x, \\ and .")
        if any(cells[block][block] == "." for block in BLOCKS):
            raise ConfigError("every block of a mask must see itself")
        return cls(cells)

    def hiding(self, query: str, key: str) -> SeesTable:
        """A copy in which `query` does not see `key`."""
        return SeesTable({**self.cells, query: {**self.cells[query], key: "."}})

    def sees(self, query: str, key: str) -> bool:
        """Whether `query` attends to any of `key`."""
        return self.cells[query][key] != "."

    def reaches(self, query: str, key: str) -> bool:
        """Whether information from `key` can reach `query`, directly or through other blocks."""
        reached, fresh = {query}, {query}
        while fresh:
            fresh = {k for q in fresh for k in BLOCKS if self.sees(q, k)} - reached
            reached |= fresh
        return key in reached

    def draw(self) -> str:
        """The text drawing, as in `SEES`."""
        lines = [" " * 9 + "".join(f"{key:>9}" for key in BLOCKS)]
        lines += [
            f"{query:9}" + "".join(f"{self.cells[query][key]:>9}" for key in BLOCKS)
            for query in BLOCKS
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class Layout:
    """The tokens of a stream: how many in each block, in order, and which are not padding."""

    blocks: tuple[tuple[str, int], ...]
    valid_BT: Bool[Tensor, "B T"] | None = None  # None: all

    def __len__(self) -> int:
        return sum(count for _, count in self.blocks)

    def __add__(self, other: Layout) -> Layout:
        return Layout(self.blocks + other.blocks, _joined(self, other))

    def span(self, block: str) -> slice:
        """The positions of a block's tokens."""
        start = 0
        for name, count in self.blocks:
            if name == block:
                return slice(start, start + count)
            start += count
        raise KeyError(block)


def _joined(a: Layout, b: Layout) -> Tensor | None:
    valid = a.valid_BT if a.valid_BT is not None else b.valid_BT
    if valid is None:
        return None
    parts = [
        part.valid_BT if part.valid_BT is not None else valid.new_ones(len(valid), len(part))
        for part in (a, b)
    ]
    return torch.cat(parts, dim=1)


def visible(
    table: SeesTable, queries: Layout, keys: Layout, device: torch.device
) -> Bool[Tensor, "b 1 T S"] | None:
    """The boolean mask, with b either B or 1; None if every query sees every key."""
    rows = []
    for query, n in queries.blocks:
        row = [_cell(table.cells[query][key], query, n, key, m, device) for key, m in keys.blocks]
        rows.append(torch.cat(row, dim=1))
    marks = {table.cells[query][key] for query, _ in queries.blocks for key, _ in keys.blocks}
    if keys.valid_BT is None:
        return None if marks == {"x"} else torch.cat(rows)[None, None]
    return torch.cat(rows)[None, None] & keys.valid_BT[:, None, None, :]


def _cell(mark: str, query: str, n: int, key: str, m: int, device: torch.device) -> Tensor:
    full = torch.ones(n, m, dtype=torch.bool, device=device)
    if mark == ".":
        return ~full
    if mark == "x":
        return full
    if query == key:
        return full.tril()
    return full if BLOCKS.index(key) < BLOCKS.index(query) else ~full
