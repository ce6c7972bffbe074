"""The instructions in an EpisodeStore: how many steps have each text, which episodes have none.

Parts are read one at a time, and of each only the texts and the table that numbers them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Integer

from depthtok.stores.episodes import ALTERNATIVES, INSTRUCTIONS, EpisodeStore
from depthtok.stores.parts import Part
from depthtok.stores.spec import is_store
from depthtok.stores.store import Store

NAME_IT = "if a feature holds it, name that as `instruction` in the schema, and convert again"
"""What to do where no episode has an instruction: leaving them out would leave none."""


@dataclass(frozen=True)
class Instructions:
    """The texts of some episodes. An episode may have several: one a step."""

    episodes: int
    texts: dict[str, int]  # how many steps each has; without empty ones
    empty: int  # episodes that have no text at any step
    partly: int  # episodes that have none at some steps

    def line(self) -> str:
        """For people."""
        text = f"{len(self.texts):,} distinct"
        if self.empty:
            text += f"; {_share(self.empty, self.episodes)} have none"
        if self.partly:
            text += f"; {_share(self.partly, self.episodes)} have none at some of their steps"
        return text


def is_empty(text: str) -> bool:
    """Whether a text holds nothing but spaces and underscores, which policies do not read."""
    return not text.replace("_", " ").strip()


def read(
    store: EpisodeStore, only: Bool[np.ndarray, " E"] | None = None, *, drawn: bool = True
) -> Instructions:
    """The texts of all episodes, or `only` of some. With `drawn`, every alternative text of a step
    counts, else its first."""
    counts: dict[str, int] = {}
    episodes = empty = partly = 0
    for part, chosen in _parts(store, only):
        texts, alternatives = _texts(part), _alternatives(part) if drawn else {}
        numbers = part.map("instruction")[: int(part.frames.sum())]
        rows = np.repeat(np.arange(len(chosen)), part.frames)
        numbers, rows = numbers[chosen[rows]], rows[chosen[rows]]
        for number, steps in enumerate(np.bincount(numbers, minlength=len(texts)).tolist()):
            for text in alternatives.get(str(number), [texts[number]]) if steps else ():
                if not is_empty(text):
                    counts[text] = counts.get(text, 0) + steps
        blank, spoken = _blank_and_spoken(texts, numbers, rows, len(chosen))
        episodes += int(chosen.sum())
        empty += int((blank & ~spoken).sum())
        partly += int((blank & spoken).sum())
    return Instructions(episodes, counts, empty, partly)


def without(store: EpisodeStore) -> Bool[np.ndarray, " E"]:
    """Which episodes have no text at any step."""
    missing = [np.zeros(0, bool)]
    for part, chosen in _parts(store, None):
        texts = _texts(part)
        if not any(map(is_empty, texts)):  # its table is not read
            missing.append(np.zeros(len(chosen), bool))
            continue
        numbers = part.map("instruction")[: int(part.frames.sum())]
        rows = np.repeat(np.arange(len(chosen)), part.frames)
        blank, spoken = _blank_and_spoken(texts, numbers, rows, len(chosen))
        missing.append(blank & ~spoken)
    return np.concatenate(missing)


def notice(path: Path) -> list[str]:
    """A line for people if episodes of the store at `path` have no instruction; [] otherwise."""
    if not is_store(path) or Store(path).spec.type != EpisodeStore.TYPE:
        return []
    missing = without(EpisodeStore(path))
    if not missing.any():
        return []
    remedy = "`train-vla --set data.empty_instructions=drop` leaves them out"
    if missing.all():
        remedy = NAME_IT
    return [f"{_share(int(missing.sum()), len(missing))} have no instruction; {remedy}"]


def _share(count: int, total: int) -> str:
    plural = "" if total == 1 else "s"
    return f"{count:,} of {total:,} episode{plural} ({100 * count / total:.3g} %)"


def _parts(
    store: EpisodeStore, only: Bool[np.ndarray, " E"] | None
) -> Iterator[tuple[Part, Bool[np.ndarray, " e"]]]:
    """The parts that have chosen episodes, and which of theirs are."""
    start = 0
    for part in store.parts():
        stop = start + len(part.frames)
        chosen = np.ones(stop - start, bool) if only is None else only[start:stop]
        start = stop
        if only is None or chosen.any():
            yield part, chosen


def _texts(part: Part) -> list[str]:
    """The distinct texts of a part, which are not kept: a store has many parts."""
    part.require(INSTRUCTIONS)
    return json.loads((part.path / INSTRUCTIONS).read_text())


def _alternatives(part: Part) -> dict[str, list[str]]:
    """By number (as text) of a text: all that a step with it may be told, if there are several."""
    if ALTERNATIVES not in part.manifest["files"]:
        return {}
    part.require(ALTERNATIVES)
    return json.loads((part.path / ALTERNATIVES).read_text())


def _blank_and_spoken(
    texts: Sequence[str],
    numbers: Integer[np.ndarray, " N"],
    rows: Integer[np.ndarray, " N"],
    episodes: int,
) -> tuple[Bool[np.ndarray, " e"], Bool[np.ndarray, " e"]]:
    """Which episodes have an empty text at some step, and which one that is not empty."""
    blank, spoken = np.zeros(episodes, bool), np.zeros(episodes, bool)
    is_blank = np.array([is_empty(text) for text in texts], bool)[numbers]
    blank[rows[is_blank]] = True
    spoken[rows[~is_blank]] = True
    return blank, spoken
