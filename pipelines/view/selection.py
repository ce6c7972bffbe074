"""Which episodes are shown, and how large that would be."""

from __future__ import annotations

import re
from itertools import islice

import numpy as np

from depthtok.errors import ConfigError
from depthtok.frames.kinds import SPANS
from depthtok.stores.stored_episode import StoredEpisode
from pipelines.view.episode import episodes_of
from pipelines.view.gather import Shown

FIRST = 10  # episodes where none are named
RANGE = re.compile(r"(\d+)(?:-(\d+))?")


def numbers_of(text: str | None, total: int) -> list[int]:
    """Numbers of episodes, ascending, from a text such as `0,4,10-19`; the first ones without.

    Raises `ConfigError` for another text, and for episodes that are not there.
    """
    if total == 0:
        raise ConfigError("there is no episode to show", remedy="`depthtok inspect` says why")
    if text is None:
        return list(range(min(FIRST, total)))
    numbers: set[int] = set()
    for word in text.replace(" ", "").split(","):
        matched = RANGE.fullmatch(word)
        if matched is None:
            raise ConfigError(f"--episodes {text}", remedy="write numbers, such as 0,4,10-19")
        first, last = int(matched[1]), int(matched[2] or matched[1])
        if not first <= last < total:
            raise ConfigError(
                f"--episodes {text}: there are episodes 0 to {total - 1}",
                remedy="give numbers in that range, the smaller one first",
            )
        numbers |= set(range(first, last + 1))
    return sorted(numbers)


def size_of(shown: Shown, numbers: list[int]) -> tuple[int, int]:
    """Frames of these episodes, and about how many bytes their pictures take before rerun packs
    them."""
    frames = pictures = 0
    wanted = set(numbers)
    for number, (_, steps, stored) in enumerate(islice(episodes_of(shown), max(numbers) + 1)):
        if number in wanted:
            frames += steps
            pictures += _colour_bytes(shown, stored) if stored is not None else 0
    depths = shown.depth.values()
    a_frame = sum(
        len(store.cameras) * int(np.prod(store.size)) * np.dtype(store.encoding.dtype).itemsize
        for store in depths
    )
    a_frame += sum(len(s.cameras) * int(np.prod(s.grid)) for s in shown.codes.values())
    for name, book in shown.decoding.items():
        a_frame += len(shown.codes[name].cameras) * int(np.prod(book.size)) * 2
    return frames, pictures + frames * a_frame


def _colour_bytes(shown: Shown, stored: StoredEpisode) -> int:
    """Of the images of an episode, and of its own depth where that is shown; of frames that do not
    lie in files of their own, once they are decoded."""
    assert shown.episodes is not None
    total = 0
    lengths = shown.episodes.table(stored.part, "images")
    rows = slice(stored.start, stored.start + len(stored))
    for number, view in enumerate(shown.episodes.views):
        height, width, _ = view.format.shape
        decoded = len(stored) * (height or 0) * (width or 0)
        if view.kind == "rgb":
            in_files = view.frames_by.name == SPANS
            total += int(lengths[rows, number, 2].sum()) if in_files else 3 * decoded
        elif view.kind == "depth" and shown.shows_own_depth:
            total += 4 * decoded
    return total
