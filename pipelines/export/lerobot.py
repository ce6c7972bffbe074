"""LeRobot v3.0 from joined stores.

First every episode by itself (`episode.py`), in threads; then the files, in which many episodes lie
together, each atomic and left alone where it is there; then what describes them, `info.json` last:
without it nobody takes the directory for a data set.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from threading import Event

from depthtok.data import DepthKind
from depthtok.errors import ConfigError, DepthKindError, did_you_mean
from depthtok.json_values import JsonObject, value_of
from depthtok.progress import progress
from depthtok.sources.lerobot.info import INFO
from pipelines.export import tables
from pipelines.export.clips import depth_codec, require_encoders, rgb_codec
from pipelines.export.config import ExportConfig
from pipelines.export.episode import EpisodeMaker
from pipelines.export.joined import Joined
from pipelines.export.layout import DATA, VIDEO, EpisodeRecords, ExportLayout, file_path
from pipelines.export.lerobot_meta import write_meta
from pipelines.export.names import keys_of
from pipelines.export.packets import put_together, video_rate
from pipelines.export.record import LEROBOT
from pipelines.export.work import ExportDirectory, Exported, Failed, fingerprint

AT_A_TIME = 1000
"""Episodes that are handed to the threads: each that waits takes memory."""


def export_lerobot(joined: Joined, config: ExportConfig, out: Path, threads: int) -> Exported:
    """Writes the data set to `out`, or goes on with it.

    Raises `ConfigError` where the episodes have no rate that a video has, `DepthKindError` where
    depth is not in metres, and what `ExportDirectory.finished` raises.
    """
    rate = _rate(joined, config)
    _require_fit(joined, config)
    directory = ExportDirectory(out, LEROBOT, INFO, fingerprint(joined, config))
    if (record := directory.finished()) is not None:
        directory.end()  # where it was killed before the last step
        return _outcome(joined, out, record, made=False)
    require_encoders([rgb_codec(config), *([depth_codec(config)] if joined.depth else [])])
    directory.begin()
    keys = keys_of(joined.cameras)
    maker = EpisodeMaker(joined, config, keys, rate, directory.work)
    numbers = joined.numbers.tolist()
    _make_episodes(maker, numbers, threads)
    records = EpisodeRecords.of((number, maker.record(number)) for number in numbers)
    layout = ExportLayout(joined, config, keys, rate, records)
    _write_videos(layout, maker, out)
    for number, group in enumerate(layout.data_groups):
        path = out / file_path(DATA, number)
        if not path.is_file():
            tables.write_frames(path, map(layout.columns, group))
    record = write_meta(layout, maker.figures, directory)
    directory.end()
    return _outcome(joined, out, record, made=True)


def _rate(joined: Joined, config: ExportConfig) -> Fraction:
    """Frames per second, as video has it. Raises `ConfigError` where there is no rate, or none that
    a video can have."""
    fps = joined.rate(config.fps)
    if not fps:
        raise ConfigError(
            f"{joined.episodes.path} does not say how many frames a second has",
            remedy="say it with --set fps=20, or export with --format rlds",
        )
    rate = video_rate(fps)
    if rate is None:
        raise ConfigError(
            f"{fps} frames per second is a rate that no video can have",
            remedy="correct --set fps, or `fps` in the schema of the episodes and convert them "
            "again; or export with --format rlds",
        )
    return rate


def _require_fit(joined: Joined, config: ExportConfig) -> None:
    """Raises errors for depth and settings that LeRobot has no place for."""
    if joined.depth and joined.depth.kind is not DepthKind.METRES:
        raise DepthKindError(
            f"{joined.depth.path} holds {joined.depth.kind_in_words}, depth videos of LeRobot are "
            "in metres",
            remedy="leave --depth out (codes need no unit), give depth in metres, or export with "
            "--format rlds, which keeps it as it is",
        )
    if config.molmoact and config.molmoact not in joined.code_cameras:
        raise ConfigError(
            f"there are no codes of camera {config.molmoact!r}",
            remedy=did_you_mean(config.molmoact, list(joined.code_cameras))
            if joined.codes
            else "give --codes",
        )


def _make_episodes(maker: EpisodeMaker, numbers: list[int], threads: int) -> None:
    """Makes what each episode has of its own."""
    stop = Event()
    maker.cancelled = stop.is_set
    with progress(len(numbers), "episodes", "export") as bar, ThreadPoolExecutor(threads) as pool:
        try:
            for start in range(0, len(numbers), AT_A_TIME):
                for _ in pool.map(maker.make, numbers[start : start + AT_A_TIME]):
                    bar.advance()
        except BaseException:  # a signal, too: what is running ends within some frames
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def _write_videos(layout: ExportLayout, maker: EpisodeMaker, out: Path) -> None:
    """Puts the clips of every stream together."""
    for key, groups in layout.video_groups.items():
        delays = layout.records.clips[key].delay
        for number, group in enumerate(groups):
            path = out / file_path(VIDEO, number, key)
            if path.is_file():
                continue
            folders = [maker.folder(layout.numbers[index]) for index in group]
            delay = max(delays[group.start : group.stop])
            put_together([f / f"{key}.mp4" for f in folders], path, layout.rate, delay)


def _outcome(joined: Joined, out: Path, record: JsonObject, *, made: bool) -> Exported:
    """What an export is, by the record that lies in it."""
    files: Mapping = value_of(record, "files", dict)
    return Exported(
        out,
        "lerobot",
        value_of(record, "episodes", int),
        value_of(record, "frames", int),
        len(files),
        sum(size for size, _ in files.values()),
        made,
        [Failed(**failure) for failure in value_of(record, "failures", list)],
        value_of(record, "copied", dict),
        value_of(record, "beyond", dict),
        list(joined.notes),
        comes_back=joined.episodes.action_dim > 0,
    )
