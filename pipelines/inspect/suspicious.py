"""What is suspicious in an EpisodeStore: nothing here is an error, all of it has cost somebody a
training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from depthtok.stores import instructions
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.extremes import find
from depthtok.stores.spread import Spread
from pipelines.inspect.survey import Survey

AT_AN_END = 0.02  # share of the steps at exactly the smallest or largest value
REPEATED = 0.05  # share of frames that are the frame before
SHORT, LONG = 0.1, 10.0  # times the median length


@dataclass(frozen=True)
class Suspicion:
    """What was seen, of how much, where first, and what it may mean."""

    what: str
    amount: str
    first: str
    meaning: str


def table_of(rows: Sequence[Suspicion]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Columns and cells of a table; without the column `first` where it would be empty."""
    columns = {
        "what": [row.what for row in rows],
        "how much": [row.amount for row in rows],
        "first": [row.first for row in rows],
        "what it may mean": [row.meaning for row in rows],
    }
    filled = {name: cells for name, cells in columns.items() if any(cells)}
    return list(filled), list(zip(*filled.values(), strict=True))


def suspicions(store: EpisodeStore, counted: Survey) -> list[Suspicion]:
    """What is suspicious, in the order in which one looks."""
    return [
        *_columns(store, counted),
        *_episodes(store, counted),
        *_lengths(store),
        *_frames(store, counted),
        *_texts(store),
        *_gone(store),
    ]


def _columns(store: EpisodeStore, counted: Survey) -> Iterator[Suspicion]:
    for side, title in (("action", "action"), ("proprio", "state")):
        figures, columns = getattr(counted.statistics, side), getattr(store.meaning, side)
        for number, column in enumerate(counted.columns[side]):
            name, spread = f"{title} {columns[number].name}", Spread.of(figures, number)
            if column.not_finite:
                yield Suspicion(
                    f"{name} is not finite",
                    f"{column.not_finite:,} steps",
                    "",
                    "a division by 0 or a missing value when it was recorded",
                )
            elif spread.constant:
                yield Suspicion(
                    f"{name} is constant",
                    f"always {spread.min:.4g}",
                    "",
                    "a joint that was not used, or a wrong column in the schema",
                )
            elif spread.resting:
                share = "in less than 2 % of the steps"
                yield Suspicion(
                    f"{name} hardly ever moves", share, "", "it is normalised by rare motions"
                )
            elif spread.spike:
                extreme = find(store, side, number, spread.spike)
                yield Suspicion(
                    f"{name} has a spike",
                    f"{extreme.value:.4g}; the range is {spread.factor:.0f} x that of 98 %",
                    extreme.where,
                    "a glitch of a sensor, which squeezes all else where min and max normalise",
                )
            elif side == "action" and number not in store.gripper:
                yield from _clipped(name, spread, (column.at_low, column.at_high), figures.count)


def _clipped(name: str, spread: Spread, at: Sequence[int], steps: int) -> Iterator[Suspicion]:
    ends = [
        f"{100 * count / steps:.2g} % of the steps are exactly {value:.4g}"
        for count, value in zip(at, (spread.min, spread.max), strict=True)
        if count > max(1, AT_AN_END * steps)
    ]
    if ends:
        yield Suspicion(
            f"{name} stops at its ends",
            ", ".join(ends),
            "",
            "actions were clipped: what was commanded beyond is lost",
        )


def _key(store: EpisodeStore, numbers: Sequence[int]) -> str:
    return str(store.episode(numbers[0]).key) if len(numbers) else ""


def _share(count: int, total: int, unit: str) -> str:
    return f"{count:,} of {total:,} {unit} ({100 * count / total:.2g} %)"


def _episodes(store: EpisodeStore, counted: Survey) -> Iterator[Suspicion]:
    if counted.still_count:
        yield Suspicion(
            "the action never changes in an episode",
            _share(counted.still_count, len(store), "episodes"),
            _key(store, counted.still),
            "nothing was recorded, or the robot stood still",
        )
    if counted.copies_count:
        copy, original = counted.copies[0]
        yield Suspicion(
            "an episode has the actions and states of an earlier one",
            _share(counted.copies_count, len(store), "episodes"),
            f"{_key(store, [copy])} is {_key(store, [original])}",
            "it was recorded or converted twice; it may be on both sides of a split",
        )


def _lengths(store: EpisodeStore) -> Iterator[Suspicion]:
    if not len(store):
        return
    median = float(np.median(store.lengths))
    for words, which, meaning in (
        (f"shorter than {SHORT:g} x the median", store.lengths < SHORT * median, "it was aborted"),
        (f"longer than {LONG:g} x the median", store.lengths > LONG * median, "several in one"),
        ("has a single step", store.lengths == 1, "there is no motion in it"),
    ):
        numbers = np.flatnonzero(which)
        if len(numbers):
            amount = _share(len(numbers), len(store), "episodes")
            words = f"an episode {words if words.startswith('has') else 'is ' + words}"
            yield Suspicion(words, amount, _key(store, numbers[:1].tolist()), meaning)


def _frames(store: EpisodeStore, counted: Survey) -> Iterator[Suspicion]:
    for camera, repeats in counted.cameras.items():
        if repeats.frozen_count:
            yield Suspicion(
                f"{camera} shows one frame for a whole episode",
                _share(repeats.frozen_count, len(store), "episodes"),
                _key(store, repeats.frozen),
                "the camera hung, or is not there",
            )
        elif repeats.frames and repeats.repeated > REPEATED * repeats.frames:
            yield Suspicion(
                f"{camera} repeats the frame before",
                _share(repeats.repeated, repeats.frames, "frames"),
                "",
                "a camera slower than the rate of the data set, or frames that were padded",
            )
    if counted.not_compared:
        cameras = ", ".join(counted.not_compared)
        yield Suspicion(
            "not looked at: repeated frames",
            cameras,
            "",
            "frames of videos have no digest of their own",
        )


def _texts(store: EpisodeStore) -> Iterator[Suspicion]:
    texts = instructions.read(store)
    for count, words in (
        (texts.empty, "an episode has no instruction"),
        (texts.partly, "an episode has no instruction at some of its steps"),
    ):
        if count:
            amount = _share(count, len(store), "episodes")
            meaning = "`train-vla --set data.empty_instructions=drop` leaves them out"
            yield Suspicion(words, amount, "", meaning)


def _gone(store: EpisodeStore) -> Iterator[Suspicion]:
    failures = store.failures()
    if failures:
        amount = f"{len(failures):,} episodes, beside the {len(store):,} that are here"
        yield Suspicion("could not be read", amount, str(failures[0].key), failures[0].reason)
    for camera, count in store.absent_counts().items():
        if count:
            amount = _share(count, len(store), "episodes")
            yield Suspicion(f"{camera} is not there", amount, "", "it is masked in training")
    if store.meaning.unknown:
        words = ", ".join(store.meaning.unknown)
        yield Suspicion("not known", words, "", "the schema does not say it: nothing checks it")
