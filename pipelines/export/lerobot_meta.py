"""What describes an export as LeRobot: all of `meta/`, and `schema.toml`.

meta/depthtok.json              what lerobot has no place for: provenance, codebook, ranges
meta/depthtok_episodes.parquet  the same by episode: its key, the range of every clip
meta/info.json                  last
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from depthtok.disk.files import write_atomic
from depthtok.json_values import JsonObject
from depthtok.sources.lerobot.info import INFO, TASK
from pipelines.convert.description import SCHEMA_FILE
from pipelines.export import provenance, statistics, tables
from pipelines.export.clips import depth_codec, rgb_codec
from pipelines.export.columns import ACTION, STATE, features_of, video_info
from pipelines.export.layout import (
    DATA,
    EPISODES,
    FILES_IN_CHUNK,
    MB,
    VIDEO,
    ExportLayout,
    file_path,
)
from pipelines.export.packets import opened_stream
from pipelines.export.record import LEROBOT
from pipelines.export.schema_text import CameraFeatures, ColumnKeys, schema_text
from pipelines.export.work import ExportDirectory

BY_EPISODE = "meta/depthtok_episodes.parquet"


FiguresOf = Callable[[int], Mapping[str, statistics.Figures]]
"""The statistics of an episode's videos, by its number in the store."""


def write_meta(
    layout: ExportLayout, of_videos: FiguresOf, directory: ExportDirectory
) -> JsonObject:
    """Writes all of it, of an export whose files are there. Returns the record."""
    out = directory.out
    tables.write_tasks(out / "meta/tasks.parquet", list(layout.tasks))
    merged = _write_episodes(layout, of_videos, out)
    write_atomic(out / "meta/stats.json", _json(_all_statistics(layout, merged)))
    tables.write_rows(out / BY_EPISODE, provenance.episode_rows(layout))
    write_atomic(out / SCHEMA_FILE, _schema(layout))
    info = _info(layout, out)
    files = [
        path for path in out.rglob("*") if path.is_file() and directory.work not in path.parents
    ]
    listed = directory.files(path for path in files if path not in (out / LEROBOT, out / INFO))
    record = {"fingerprint": directory.fingerprint, **provenance.described(layout), "files": listed}
    write_atomic(out / LEROBOT, _json(record))
    write_atomic(out / INFO, _json(info))
    return record


def _json(value: object) -> str:
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def _figures(
    layout: ExportLayout, of_videos: FiguresOf, index: int
) -> dict[str, statistics.Figures]:
    """The statistics of every feature in an episode."""
    columns = layout.columns(index).items()
    vectors = {key: values if values.ndim == 2 else values[:, None] for key, values in columns}
    of_columns = {key: statistics.of_vectors(values) for key, values in vectors.items()}
    return {**of_videos(layout.numbers[index]), **of_columns}


def _write_episodes(
    layout: ExportLayout, of_videos: FiguresOf, out: Path
) -> dict[str, statistics.Figures]:
    """Writes where every episode lies, and its statistics; returns those of all episodes."""
    size = 8 * sum(f.size for fs in _figures(layout, of_videos, 0).values() for f in fs.values())
    groups = tables.cut([size] * len(layout.numbers), layout.config.data_file_mb * MB)
    data = _files_of(layout.data_groups)
    videos = {key: _files_of(groups) for key, groups in layout.video_groups.items()}
    merged: dict[str, statistics.Merger] = {}

    def rows(number: int, group: range) -> Iterator[dict[str, object]]:
        for index in group:
            row = _row(layout, index, data[index], {key: f[index] for key, f in videos.items()})
            for key, figures in _figures(layout, of_videos, index).items():
                row |= {f"stats/{key}/{n}": v for n, v in statistics.to_json(figures).items()}
                merged.setdefault(key, statistics.Merger()).add(figures)
            chunk, file = divmod(number, FILES_IN_CHUNK)
            row |= {"meta/episodes/chunk_index": chunk, "meta/episodes/file_index": file}
            yield row

    for number, group in enumerate(groups):
        tables.write_rows(out / file_path(EPISODES, number), rows(number, group))
    return {key: merger.figures() for key, merger in merged.items()}


def _files_of(groups: list[range]) -> list[tuple[int, int]]:
    """For every episode: the number of its file, and the first episode in that."""
    of_groups = [[(number, group.start)] * len(group) for number, group in enumerate(groups)]
    return list(chain.from_iterable(of_groups))


def _row(
    layout: ExportLayout, index: int, data: tuple[int, int], videos: Mapping[str, tuple[int, int]]
) -> dict[str, object]:
    start, length = int(layout.starts[index]), int(layout.lengths[index])
    chunk, file = divmod(data[0], FILES_IN_CHUNK)
    row: dict[str, object] = {"episode_index": index, "tasks": layout.texts(index)}
    row |= {"length": length, "data/chunk_index": chunk, "data/file_index": file}
    row |= {"dataset_from_index": start, "dataset_to_index": start + length}
    for key, (number, first) in videos.items():
        chunk, file = divmod(number, FILES_IN_CHUNK)
        before = start - int(layout.starts[first])
        row |= {f"videos/{key}/chunk_index": chunk, f"videos/{key}/file_index": file}
        row[f"videos/{key}/from_timestamp"] = float(before / layout.rate)
        row[f"videos/{key}/to_timestamp"] = float((before + length) / layout.rate)
    return row


def _all_statistics(
    layout: ExportLayout, merged: Mapping[str, statistics.Figures]
) -> dict[str, dict[str, list]]:
    exact = dict(merged)
    for key, name in ((ACTION, "action"), (STATE, "proprio")):
        if key in exact:
            blocks = partial(_of_all, layout, name)
            exact[key] = statistics.with_exact_quantiles(exact[key], blocks)
    return {key: statistics.to_json(figures) for key, figures in exact.items()}


def _of_all(layout: ExportLayout, name: str) -> Iterator[np.ndarray]:
    """The actions, or states, of every exported episode."""
    return (getattr(layout.episode(index), name) for index in range(len(layout.numbers)))


def _video_info(layout: ExportLayout, out: Path) -> dict[str, dict[str, object]]:
    """The `info` of every video: of its first file."""
    config, depth = layout.config, {keys.depth for keys in layout.keys.values()}
    infos = {}
    for key in layout.video_groups:
        with opened_stream(out / file_path(VIDEO, 0, key)) as stream:
            context = stream.codec_context
            size = (context.height, context.width)
            codec, pixels = context.codec.canonical_name, str(context.pix_fmt)
        how: dict[str, object] = {"video.g": config.key_frames, "video.video_backend": "pyav"}
        if key in depth:
            options = {"x265-params": depth_codec(config).options["x265-params"]}
            how |= {"video.extra_options": options, "depth_unit": "m"}
            how |= {f"video.{name}": v for name, v in config.depth_codes.to_json().items()}
        elif codec == rgb_codec(config).lerobot_name and not layout.records.copied:
            how["video.crf"] = config.crf
        else:
            how = {}
        infos[key] = video_info(size, codec, pixels, float(layout.rate), how)
    return infos


def _info(layout: ExportLayout, out: Path) -> dict[str, object]:
    config, rate = layout.config, float(layout.rate)
    meaning = layout.joined.episodes.meaning
    names = {
        ACTION: [column.name for column in meaning.action],
        STATE: [column.name for column in meaning.proprio],
    }
    features = features_of(layout.columns(0), _video_info(layout, out), names)
    return {
        "codebase_version": "v3.0",
        "fps": int(rate) if rate == int(rate) else rate,
        "features": features,
        "total_episodes": len(layout.numbers),
        "total_frames": int(layout.lengths.sum()),
        "total_tasks": len(layout.tasks),
        "chunks_size": FILES_IN_CHUNK,
        "data_files_size_in_mb": config.data_file_mb,
        "video_files_size_in_mb": config.video_file_mb,
        "data_path": DATA,
        "video_path": VIDEO,
        "robot_type": None,
        "splits": layout.splits(),
    }


def _schema(layout: ExportLayout) -> str:
    depth = layout.joined.depth
    with_depth = set(layout.joined.depth_cameras)
    cameras = [
        CameraFeatures(camera, keys.rgb, keys.depth, "m", depth.size)
        if depth and name in with_depth
        else CameraFeatures(camera, keys.rgb)
        for name, keys in layout.keys.items()
        for camera in [layout.joined.episodes.camera(name)]
    ]
    name = layout.config.name or layout.joined.episodes.dataset
    meaning = provenance.meaning_at(layout.joined, float(layout.rate))
    return schema_text(name, meaning, cameras, ColumnKeys(TASK, ACTION, STATE))
