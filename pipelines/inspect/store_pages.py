"""The page of a store: what it is, one of its episodes step by step, some frames; of episodes also
how they are spread, and what is suspicious in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int64

from depthtok.format import human_duration
from depthtok.pages.plots import Panel
from depthtok.pages.report import Report
from depthtok.stores import instructions
from depthtok.stores.codes import CodeStore
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.store import Store
from depthtok.stores.stored_episode import StoredEpisode
from pipelines.annotate.medians import median_depths, unlikely
from pipelines.inspect import column_tables
from pipelines.inspect.frame_views import film_of, frame_rows
from pipelines.inspect.summary import inspect
from pipelines.inspect.survey import BINS, SIDES, Survey, survey
from pipelines.inspect.suspicious import suspicions, table_of
from pipelines.inspect.trail import Trail
from vqvae.quality.gate import recorded_in_words

TEXTS = 100  # instructions listed
TITLES = {"action": "actions", "proprio": "states"}
CODES_EXPLAINED = (
    "The 16x16 codes have a colour each, the same on every page; close numbers have distinct "
    "colours, as codes have no order."
)


def store_report(store: Store, source_root: Path | None = None) -> Report:
    """Facts of a store, and frames of some of its episodes."""
    summary = inspect(store.path)
    trail = Trail.of(store, source_root)
    kind = store.spec.type
    title = f"{kind[0].upper()}{kind[1:]} of {_dataset(store)}{_maker(store)}"
    page = Report(title, str(store.path))
    page.related(trail.folders)
    steps = sum(int(part.frames.sum()) for part in store.parts())
    page.numbers({"episodes": sum(len(part.frames) for part in store.parts()), "steps": steps})
    counted = None
    if isinstance(store, EpisodeStore):
        counted = _add_suspicions(page, store)
    if isinstance(store, DepthStore):
        _add_depth(page, store, trail.episodes)
    if isinstance(store, CodeStore) and store.below_gate:
        missed = map(recorded_in_words, store.below_gate)
        page.text(*missed, title="The codebook is below the quality gate")
    if trail.notes:
        page.text(*trail.notes, title="Not shown")
    _add_frames(page, trail)
    if isinstance(store, EpisodeStore) and counted is not None:
        _add_spread(page, store, counted)
    page.facts("What it is", summary.facts)
    for title, (columns, rows) in summary.tables.items():
        figures = title in column_tables.TITLES.values()
        page.table(f"{title} in figures" if figures else title, columns, rows, folded=figures)
    return page


def _dataset(store: Store) -> str:
    return str(store.about.get("dataset", store.path.name))


def _maker(store: Store) -> str:
    """Whose depth it is, so that pages of two estimators have titles of their own."""
    if not isinstance(store, DepthStore):
        return ""
    name = str(store.estimator["name"])
    return {"dataset": ", its own"}.get(name, f", by {name}" if " " not in name else f", {name}")


def _add_depth(page: Report, store: DepthStore, episodes: EpisodeStore | None) -> None:
    """How far its cameras see, and what speaks against it."""
    medians = median_depths(store, list(store.parts()))
    page.numbers({f"{camera}: median depth, m": metres for camera, metres in medians.items()})
    if store.estimator["name"] == "tiny":
        page.text(
            "The network `tiny` shows the step: its depth is a guess, not for training on.",
            title="A demo",
        )
    of_data_set = store.estimator["name"] == "dataset"
    if episodes is not None and (warnings := unlikely(medians, episodes, of_data_set=of_data_set)):
        page.text(*warnings, title="What is suspicious")


def _add_frames(page: Report, trail: Trail) -> None:
    """The first episode as a film, and frames of the first few."""
    if not isinstance(trail.store, EpisodeStore | DepthStore | CodeStore):
        return
    film = film_of(trail)
    if film is not None:
        page.film("One episode, step by step", film)
    if trail.codes is not None:
        page.text(CODES_EXPLAINED)
    rows = list(frame_rows(trail))
    if rows:
        page.frames("Some frames", rows, shown=2)


def _add_suspicions(page: Report, store: EpisodeStore) -> Survey:
    """What one looks at before training on it."""
    counted = survey(store)
    rows = suspicions(store, counted)
    numbers: dict[str, object] = {}
    if len(store):
        numbers["steps of an episode (median)"] = float(np.median(store.lengths))
        if store.fps:
            numbers["recorded"] = human_duration(store.steps / store.fps)
    page.numbers({**numbers, "suspicious": len(rows) or "nothing"})
    if rows:
        page.table("What is suspicious", *table_of(rows))
    else:
        page.text(
            "Looked for: columns that are constant, at rest, spiking or clipped; episodes that are "
            "very short or long, still, or there twice; frames that repeat; missing instructions.",
            title="Nothing is suspicious",
        )
    return counted


def _add_spread(page: Report, store: EpisodeStore, counted: Survey) -> None:
    """How lengths, actions, states and instructions are spread, and the actions of an episode."""
    if not len(store):
        return
    title, low, high = "How long the episodes are", store.lengths.min(), store.lengths.max()
    if low == high:
        page.text(f"All of them have {low:,} steps.", title=title)
    else:
        page.counts(title, *_by_length(store), "steps", "episodes")
    texts = instructions.read(store).texts
    most = sorted(texts.items(), key=lambda item: (-item[1], item[0]))
    if most:
        title = "Instructions" if len(most) <= TEXTS else f"The {TEXTS} most frequent instructions"
        page.table(title, ["instruction", "steps"], most[:TEXTS])
    for side in SIDES:
        if counted.columns[side]:
            page.panels(
                f"How {TITLES[side]} are spread",
                _histograms(store, counted, side),
                "Every step of the store; x is the value in the column's own unit.",
                folded=side == "proprio",
            )
    episode = store.episode(0)
    for side in SIDES:
        if counted.columns[side]:
            page.panels(
                f"The {TITLES[side]} of an episode",
                _curves(store, episode, side),
                f"Episode {episode.key}: {episode.instruction() or 'no instruction'}",
                folded=side == "proprio",
            )


def _by_length(store: EpisodeStore) -> tuple[Int64[np.ndarray, " n"], Float[np.ndarray, " n+1"]]:
    """How many episodes have how many steps, in bins of whole steps, and the edges of the bins."""
    low, high = int(store.lengths.min()), int(store.lengths.max())
    width = -(-(high - low + 1) // BINS)
    edges = np.arange(low - 0.5, high + width + 0.5, width)
    counts, edges = np.histogram(store.lengths, edges)
    return counts, edges


def _histograms(store: EpisodeStore, counted: Survey, side: str) -> Iterator[Panel]:
    for column, spread in zip(getattr(store.meaning, side), counted.columns[side], strict=True):
        note = "" if column.unit in ("unknown", "1") else f"in {column.unit}"
        yield Panel(column.name, note, spread.edges, spread.counts, "value", "steps", True)


def _curves(store: EpisodeStore, episode: StoredEpisode, side: str) -> Iterator[Panel]:
    values = getattr(episode, side)
    for number, column in enumerate(getattr(store.meaning, side)):
        note = "" if column.unit in ("unknown", "1") else f"in {column.unit}"
        steps = np.arange(len(values))
        yield Panel(column.name, note, steps, values[:, number], "step", "value")
