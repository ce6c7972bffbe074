"""What converting a data set in files would cost, and what reading its frames costs later: as they
are, or packed with `--copy-images`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from depthtok.errors import SourceError
from depthtok.format import human_bytes
from depthtok.frames.kinds import Rows
from depthtok.remote.whole import holding
from depthtok.sources.files import FileEpisode, FileGroup
from depthtok.stores.arrays import ArraySpec
from pipelines.convert.files_part import FilesReading, ReadView, packed_view
from pipelines.probe import EPISODES
from pipelines.stage import Probe

FRAMES = 32  # of each view, that are packed and read at random
CACHED_PX = 224  # a side of a picture in the frame cache of `train-vla`, at its full size


def probe(reading: FilesReading, group: FileGroup, arrays: Mapping[str, ArraySpec]) -> Probe | None:
    """A measurement on the first episodes of a group; None if none can be read. A group that lies
    elsewhere is fetched whole, which is not measured."""
    with holding(group.paths(reading.dataset.path)) as paths:
        return _probe(reading, replace(group, fixed=paths), arrays)


def _probe(
    reading: FilesReading, group: FileGroup, arrays: Mapping[str, ArraySpec]
) -> Probe | None:
    files = group.paths(reading.dataset.path)
    started, episodes = time.monotonic(), []
    opening = 0.0  # s: reading the time stamps of whole videos, once a group
    for _, episode in islice(reading.dataset.episodes(group, reading.keys), EPISODES):
        if isinstance(episode, SourceError):
            continue
        opening = opening or time.monotonic() - started
        episodes.append(episode)
    if not episodes:
        return None
    share = len(episodes) / len(group.episodes)
    seconds = max(0.0, time.monotonic() - started - opening * (1 - share))
    steps = sum(map(len, episodes))
    row = sum(
        np.dtype(spec.dtype).itemsize * int(np.prod(spec.row))
        for spec in arrays.values()
        if not spec.per_episode
    )
    costs = [_frame_costs(view, files, episodes) for view in reading.views]
    if any(cost is None for cost in costs):
        return None
    totals = np.sum([c for c in costs if c is not None], axis=0)
    packing, size, in_order, random, packed = totals
    cached = 3 * CACHED_PX**2 * sum(view.view.kind == "rgb" for view in reading.views)
    note = (
        f"a step's frames: {in_order * 1e3:.1f} ms in order and {random * 1e3:.1f} ms at random as "
        f"they lie, {packed * 1e3:.1f} ms from --copy-images, which writes {human_bytes(size)} and "
        f"takes {packing * 1e3:.1f} ms a step"
    )
    of_cache = (
        f"the frame cache of train-vla (--set frame_cache=DIR) takes {human_bytes(cached)} a step "
        f"at {CACHED_PX} px and the time in order once; then nothing is decoded"
    )
    if reading.copy_images:
        seconds, row = seconds + packing * steps, row + size
    return Probe(len(episodes), seconds, row * steps, (note, of_cache))


def _frame_costs(
    view: ReadView, files: Sequence[Path], episodes: Sequence[FileEpisode]
) -> tuple[float, float, float, float, float] | None:
    """Of one frame of a view: seconds to pack it, bytes packed, seconds to read it where it lies,
    in order and at random, seconds to decode it packed. None where frames cannot be read."""
    rows: Rows = episodes[0].rows(view.key)[:FRAMES]
    try:
        started = time.monotonic()
        packs = list(view.packs(files, rows))
        packing = time.monotonic() - started
        started = time.monotonic()
        for _ in view.source.frames(files, rows):
            pass
        in_order = time.monotonic() - started
        random = np.random.default_rng(0).permutation(len(rows))
        started = time.monotonic()
        for number in random.tolist():
            list(view.source.frames(files, rows[number : number + 1]))
        scattered = time.monotonic() - started
    except SourceError:
        return None
    stored, started = packed_view(view.view), time.monotonic()
    for data in packs:
        stored.decode(data)
    decoding = time.monotonic() - started
    count = max(len(rows), 1)
    seconds = np.array([in_order, scattered, decoding]) / count
    return packing / count, sum(map(len, packs)) / count, *seconds.tolist()
