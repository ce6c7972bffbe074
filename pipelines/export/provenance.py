"""Where an export comes from, and what its numbers mean: what neither format has a place for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace

from depthtok import __version__
from depthtok.data import SHIFT
from depthtok.meaning import Meaning
from depthtok.stores.lineage import exported_from
from depthtok.stores.stored_episode import StoredEpisode
from pipelines.export.joined import ABSENT, Joined
from pipelines.export.layout import ExportLayout
from pipelines.provenance import estimator_of

OF_CODES = ("codes", "depth_kind", SHIFT, "gate")
"""What a CodeStore says of itself that is not said otherwise."""

MADE_WITH = ("sticky", "device")
"""Its settings."""


def meaning_at(joined: Joined, rate: float | None) -> Meaning:
    """The meaning of the columns, at this rate where the episodes do not say theirs."""
    meaning = joined.episodes.meaning
    return replace(meaning, fps=rate) if meaning.fps is None else meaning


def of_stores(joined: Joined) -> dict[str, object]:
    """The stores, the data set behind them, and how codes and depth are to be read."""
    episodes = joined.episodes
    about: dict[str, object] = {
        "depthtok": __version__,
        "dataset": episodes.dataset,
        "episodes_fingerprint": episodes.fingerprint,
        "episodes_content": episodes.content,
        **exported_from(episodes),
        "meaning": episodes.meaning.to_json(),
        "cameras": {name: asdict(episodes.camera(name)) for name in joined.cameras},
    }
    if joined.codes:
        codes = joined.codes
        about["codes"] = {
            "codebook": codes.codebook,
            "store_fingerprint": codes.fingerprint,
            "made_from": codes.spec.upstream,
            "grid": list(codes.grid),
            "cameras": list(joined.code_cameras),
            "transform": codes.transform.to_json(),
            "absent": ABSENT,
            "about": {name: codes.about[name] for name in OF_CODES if name in codes.about},
            "made_with": {n: codes.spec.what[n] for n in MADE_WITH if n in codes.spec.what},
            "estimator": estimator_of(codes),
        }
    if joined.depth:
        depth = joined.depth
        about["depth"] = {
            "kind": depth.kind.value,
            "estimator": dict(depth.estimator),
            "store_fingerprint": depth.fingerprint,
            "store_encoding": depth.encoding.value,
            "size": list(depth.size),
            "cameras": list(joined.depth_cameras),
            "transform": depth.transform.to_json(),
        }
    return about


def range_key(camera: str) -> str:
    """Of the range of a camera's clip, low and high, in the table by episode."""
    return f"range/{camera}"


def of_episode(joined: Joined, episode: StoredEpisode) -> dict[str, object]:
    """Its key, the cameras that it does not have, and the range of disparity of every clip."""
    row: dict[str, object] = {"key": str(episode.key)}
    row["absent"] = [camera for camera in joined.cameras if episode.absent(camera)]
    for camera in joined.code_cameras:
        grid = joined.grid(episode, camera)
        low, high = grid.range if grid else (None, None)
        row |= {f"{range_key(camera)}/low": low, f"{range_key(camera)}/high": high}
    for camera in joined.cameras:
        matrix = episode.intrinsics(camera)
        row[f"intrinsics/{camera}"] = None if matrix is None else matrix.reshape(-1).tolist()
    return row


def episode_rows(layout: ExportLayout) -> Iterator[dict[str, object]]:
    """The table of `meta/depthtok_episodes.parquet`."""
    for index in range(len(layout.numbers)):
        row = {"episode_index": index}
        yield {**row, **of_episode(layout.joined, layout.episode(index))}


def described(layout: ExportLayout) -> dict[str, object]:
    """The record of an export as LeRobot."""
    config = layout.config
    return {
        **of_stores(layout.joined),
        "settings": asdict(config),
        "episodes": len(layout.numbers),
        "frames": int(layout.lengths.sum()),
        "features": {
            camera: {**asdict(keys), "range": range_key(camera)}
            for camera, keys in layout.keys.items()
        },
        "copied": dict(layout.records.copied),
        "beyond": dict(layout.records.beyond),
        "failures": [asdict(failure) for failure in layout.records.failures],
    }
