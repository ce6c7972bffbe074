"""What an EpisodeStore's episodes are told: how many have each text, and which have none.

Parts are read one at a time, and of each only the texts and the table that numbers them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Integer

from depthtok.episodes import ALTERNATIVES, INSTRUCTIONS, EpisodeStore
from depthtok.parts import Part
from depthtok.store import Store, is_store

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
    """Whether a policy is told nothing by it: spaces and underscores are not read."""
    return not text.replace("_", " ").strip()


def read(
    store: EpisodeStore, only: Bool[np.ndarray, " E"] | None = None, *, drawn: bool = True
) -> Instructions:
    """The texts of all episodes, or `only` of some: exact. With `drawn`, all texts that a step may
    be told by count, else the first."""
    counts: dict[str, int] = {}
    episodes = empty = partly = 0
    for part, chosen in _parts(store, only):
        texts, several = _texts(part), _alternatives(part) if drawn else {}
        numbers = part.map("instruction")[: int(part.frames.sum())]
        rows = np.repeat(np.arange(len(chosen)), part.frames)
        numbers, rows = numbers[chosen[rows]], rows[chosen[rows]]
        for number, steps in enumerate(np.bincount(numbers, minlength=len(texts)).tolist()):
            for text in several.get(str(number), [texts[number]]) if steps else ():
                if not is_empty(text):
                    counts[text] = counts.get(text, 0) + steps
        blank, spoken = _sides(texts, numbers, rows, len(chosen))
        episodes += int(chosen.sum())
        empty += int((blank & ~spoken).sum())
        partly += int((blank & spoken).sum())
    return Instructions(episodes, counts, empty, partly)


def without(store: EpisodeStore) -> Bool[np.ndarray, " E"]:
    """Which episodes have no text at any step."""
    marks = [np.zeros(0, bool)]
    for part, chosen in _parts(store, None):
        texts = _texts(part)
        if not any(map(is_empty, texts)):  # its table is not read
            marks.append(np.zeros(len(chosen), bool))
            continue
        numbers = part.map("instruction")[: int(part.frames.sum())]
        rows = np.repeat(np.arange(len(chosen)), part.frames)
        blank, spoken = _sides(texts, numbers, rows, len(chosen))
        marks.append(blank & ~spoken)
    return np.concatenate(marks)


def notice(path: Path) -> list[str]:
    """What is to be said of a store's episodes that have no instruction; [] of other stores."""
    if not is_store(path) or Store(path).spec.type != EpisodeStore.TYPE:
        return []
    marks = without(EpisodeStore(path))
    if not marks.any():
        return []
    remedy = "`train-vla --set data.empty_instructions=drop` leaves them out"
    if marks.all():
        remedy = NAME_IT
    return [f"{_share(int(marks.sum()), len(marks))} have no instruction; {remedy}"]


def _share(some: int, all_: int) -> str:
    plural = "" if all_ == 1 else "s"
    return f"{some:,} of {all_:,} episode{plural} ({100 * some / all_:.3g} %)"


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


def _sides(
    texts: Sequence[str],
    numbers: Integer[np.ndarray, " N"],
    rows: Integer[np.ndarray, " N"],
    episodes: int,
) -> tuple[Bool[np.ndarray, " e"], Bool[np.ndarray, " e"]]:
    """Which episodes have an empty text, and which have one that is not: by the number of every
    step's text, and the row of its episode."""
    blank, spoken = np.zeros(episodes, bool), np.zeros(episodes, bool)
    is_blank = np.array([is_empty(text) for text in texts], bool)[numbers]
    blank[rows[is_blank]] = True
    spoken[rows[~is_blank]] = True
    return blank, spoken
