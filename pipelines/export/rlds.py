"""RLDS from joined stores, which tensorflow-datasets opens: a directory of one version.

Pictures whose bytes the data set has are copied; those of videos are encoded as JPEG. Depth in
whole millimetres is PNG of 16 bits, other depth a tensor in the store's own encoding. A shard is
written whole, and has a record beside it of what failed; `dataset_info.json` comes last.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from depthtok.disk.files import write_atomic
from depthtok.errors import ConfigError, SourceError
from depthtok.frames.kinds import SPANS
from depthtok.json_values import JsonObject, value_of
from depthtok.progress import progress
from depthtok.sources.features import Feature, read_json
from depthtok.sources.shards import INFO
from depthtok.sources.write import RldsWriter
from depthtok.stores.depth import DepthEncoding
from depthtok.stores.stored_episode import StoredEpisode
from pipelines.convert.description import SCHEMA_FILE
from pipelines.export import provenance
from pipelines.export.config import ExportConfig
from pipelines.export.joined import Joined
from pipelines.export.layout import runs
from pipelines.export.names import distinct, safe
from pipelines.export.record import RLDS
from pipelines.export.schema_text import CameraFeatures, ColumnKeys, schema_text
from pipelines.export.work import ExportDirectory, Exported, Failed, fingerprint

VERSION = "1.0.0"
OBSERVATION, METADATA = "steps/observation", "episode_metadata"
TEXT, ACTION, STATE = "steps/language_instruction", "steps/action", f"{OBSERVATION}/state"


def export_rlds(joined: Joined, config: ExportConfig, out: Path) -> Exported:
    """Writes the data set to `out`, or goes on with it. Raises `ConfigError` for another rate than
    the episodes have and for cameras whose names meet, and what `ExportDirectory.finished` raises.
    """
    joined.rate(config.fps)
    directory = ExportDirectory(out, RLDS, INFO, fingerprint(joined, config))
    record = directory.finished()
    is_new = record is None
    if record is None:
        of_new = _RldsExport(joined, config, out, directory)
        of_new.require_distinct_features()
        directory.begin()
        record = of_new.written()
    directory.end()
    files: Mapping = value_of(record, "files", dict)
    return Exported(
        out,
        "rlds",
        value_of(record, "episodes", int),
        value_of(record, "frames", int),
        len(files),
        sum(size for size, _ in files.values()),
        is_new,
        [Failed(**failure) for failure in value_of(record, "failures", list)],
        notes=list(joined.notes),
        comes_back=joined.episodes.action_dim > 0,
    )


@dataclass(frozen=True)
class _RldsExport:
    joined: Joined
    config: ExportConfig
    out: Path
    directory: ExportDirectory

    def written(self) -> JsonObject:
        """Writes all of it; returns the record."""
        failures: list[Failed] = []
        episodes = frames = 0
        shards = self._shards()
        with progress(len(shards), "shards", "export") as bar:
            for split, index, of, numbers in shards:
                record = self._shard(split, index, of, numbers)
                failures += [Failed(**f) for f in value_of(record, "failures", list)]
                episodes += value_of(record, "episodes", int)
                frames += value_of(record, "frames", int)
                bar.advance()
        write_atomic(self.out / SCHEMA_FILE, self._schema())
        paths = [*self.out.glob("*.tfrecord-*"), self.out / SCHEMA_FILE]
        record = {
            "fingerprint": self.directory.fingerprint,
            **provenance.of_stores(self.joined),
            "settings": asdict(self.config),
            "episodes": episodes,
            "frames": frames,
            "failures": [asdict(failure) for failure in failures],
            "features": {camera: self._keys_of_codes(camera) for camera in self.joined.cameras},
            "files": self.directory.files(paths),
        }
        write_atomic(self.out / RLDS, json.dumps(record, indent=1, allow_nan=False) + "\n")
        self._writer.finish()
        return record

    def require_distinct_features(self) -> None:
        """Raises `ConfigError` where two things would be one feature: depth of a camera `x` and
        the pictures of another that is called `x_depth`."""
        counts = Counter(feature.path for feature in self._each_feature())
        for path, count in counts.items():
            if count > 1:
                raise ConfigError(
                    f"{count} things would be the feature {path}, by the names of the cameras "
                    f"{', '.join(self.joined.cameras)}",
                    remedy="export some of them: --camera NAME; or use --format lerobot",
                )

    def _shards(self) -> list[tuple[str, int, int, list[int]]]:
        """Split, number, number of the split's shards, episodes: of every shard."""
        numbers, size = self.joined.numbers.tolist(), self.config.episodes_per_shard
        splits = [self.joined.episodes.episode(number).key.split for number in numbers]
        by_split: dict[str, list[int]] = {}
        for run in runs(splits):
            by_split.setdefault(splits[run.start], []).extend(numbers[run.start : run.stop])
        return [
            (split, start // size, -(-len(members) // size), members[start : start + size])
            for split, members in by_split.items()
            for start in range(0, len(members), size)
        ]

    def _shard(self, split: str, index: int, of: int, numbers: list[int]) -> JsonObject:
        """Writes a shard and its record, unless they are there."""
        path = self.directory.work / f"{split}-{index:05d}.json"
        if path.is_file():
            return read_json(path)
        failures: list[dict[str, object]] = []
        counts = {"episodes": 0, "frames": 0}

        def sound() -> Iterator[Mapping[str, object]]:
            for number in numbers:
                episode = self.joined.episodes.episode(number)
                try:
                    values = self._values(episode)
                except SourceError as error:
                    failures.append(asdict(Failed(str(episode.key), error.problem)))
                    continue
                counts["episodes"] += 1
                counts["frames"] += len(episode)
                yield values

        self._writer.write_shard(split, index, of, sound())
        write_atomic(path, json.dumps({**counts, "failures": failures}) + "\n")
        return read_json(path)

    @cached_property
    def _writer(self) -> RldsWriter:
        name = self.config.name or self.joined.episodes.dataset
        name = re.sub(r"[^a-z0-9_]+", "_", name.lower()).strip("_") or "episodes"
        description = f"{self.joined.episodes.dataset}, exported by depthtok; see {RLDS}."
        return RldsWriter(self.out, name, VERSION, self._features, description)

    @cached_property
    def _names(self) -> dict[str, str]:
        """The names of cameras in features."""
        cameras = self.joined.cameras
        return dict(zip(cameras, distinct([safe(camera) for camera in cameras]), strict=True))

    def _keys_of_codes(self, camera: str) -> dict[str, str]:
        """The features of a camera's codes and of the range that they are of."""
        name = self._names[camera]
        codes, interval = f"{OBSERVATION}/{name}_depth_codes", f"{METADATA}/{name}_depth_range"
        return {"codes": codes, "range": interval}

    @cached_property
    def _features(self) -> dict[str, Feature]:
        return {feature.path: feature for feature in self._each_feature()}

    def _each_feature(self) -> Iterator[Feature]:
        joined = self.joined
        for camera, name in self._names.items():
            view = joined.episodes.views[joined.episodes.view_index(camera, "rgb")]
            encoding = view.format.encoding if self._has_bytes(camera) else "jpeg"
            yield Feature(f"{OBSERVATION}/{name}", "image", "uint8", view.format.shape, encoding)
            path = f"{METADATA}/{name}_intrinsics"
            yield Feature(path, "tensor", "float32", (9,), "none", per_step=False)
        for camera in joined.depth_cameras:
            assert joined.depth is not None
            path, size = f"{OBSERVATION}/{self._names[camera]}_depth", joined.depth.size
            if joined.depth.encoding is DepthEncoding.UINT16_MM:
                yield Feature(path, "image", "uint16", (*size, 1), "png")
            else:
                yield Feature(path, "tensor", joined.depth.encoding.dtype, size, "zlib")
        for camera in joined.code_cameras:
            assert joined.codes is not None
            path = f"{OBSERVATION}/{self._names[camera]}_depth_codes"
            yield Feature(path, "tensor", "int16", joined.codes.grid, "zlib")
            path = f"{METADATA}/{self._names[camera]}_depth_range"
            yield Feature(path, "tensor", "float32", (2,), "none", per_step=False)
        if joined.episodes.proprio_dim:
            yield Feature(STATE, "tensor", "float32", (joined.episodes.proprio_dim,), "none")
        yield Feature(ACTION, "tensor", "float32", (joined.episodes.action_dim,), "none")
        yield Feature(TEXT, "text", "str")
        yield Feature(f"{METADATA}/key", "text", "str", per_step=False)
        for flag in ("is_first", "is_last", "is_terminal"):
            yield Feature(f"steps/{flag}", "scalar", "bool", (), "none")

    def _has_bytes(self, camera: str) -> bool:
        """Whether the data set has JPEG or PNG of every frame, in RGB."""
        store = self.joined.episodes
        view = store.views[store.view_index(camera, "rgb")]
        pictures = view.frames_by.name == SPANS and view.channels == "rgb"
        return pictures and view.format.encoding in ("jpeg", "png")

    def _values(self, episode: StoredEpisode) -> dict[str, object]:
        """The values of every feature."""
        joined, store, steps = self.joined, self.joined.episodes, np.arange(len(episode))
        last = steps == len(steps) - 1
        values: dict[str, object] = {
            ACTION: np.asarray(episode.action),
            TEXT: joined.step_texts(episode),
            f"{METADATA}/key": str(episode.key),
            "steps/is_first": steps == 0,
            "steps/is_last": last,
            "steps/is_terminal": last,
        }
        if store.proprio_dim:
            values[STATE] = np.asarray(episode.proprio)
        for camera, name in self._names.items():
            matrix = episode.intrinsics(camera)
            flat = np.full(9, np.nan, np.float32) if matrix is None else matrix.reshape(-1)
            values[f"{METADATA}/{name}_intrinsics"] = flat
            values[f"{OBSERVATION}/{name}"] = self._pictures(episode, camera)
        for camera in joined.depth_cameras:
            stored = joined.clip(episode, camera).stored(0, len(episode))
            is_picture = (
                self._features[f"{OBSERVATION}/{self._names[camera]}_depth"].kind == "image"
            )
            frames = stored[..., None] if is_picture else stored
            values[f"{OBSERVATION}/{self._names[camera]}_depth"] = frames
        for camera in joined.code_cameras:
            grid, name = joined.grid(episode, camera), self._names[camera]
            codes = joined.codes_of(episode, camera).astype(np.int16)
            shape = self._features[f"{OBSERVATION}/{name}_depth_codes"].shape
            values[f"{OBSERVATION}/{name}_depth_codes"] = codes.reshape(len(episode), *shape)
            interval = grid.range if grid else (np.nan, np.nan)
            values[f"{METADATA}/{name}_depth_range"] = np.array(interval, np.float32)
        return values

    def _pictures(self, episode: StoredEpisode, camera: str) -> object:
        store, start = self.joined.episodes, episode.start
        if self._has_bytes(camera):
            view = store.view_index(camera, "rgb")
            return list(store.encoded_frames(episode.part, view, start, start + len(episode)) or ())
        return episode.frames(camera).read(0, len(episode))

    def _schema(self) -> str:
        depth = self.joined.depth
        unit = "mm" if depth and depth.encoding is DepthEncoding.UINT16_MM else "m"
        cameras = []
        for name in self.joined.cameras:
            camera = self.joined.episodes.camera(name)
            key = f"{OBSERVATION}/{self._names[name]}"
            if depth and depth.kind == "metres" and name in depth.cameras:
                cameras.append(CameraFeatures(camera, key, f"{key}_depth", unit, depth.size))
            else:
                cameras.append(CameraFeatures(camera, key))
        meaning = provenance.meaning_at(self.joined, self.joined.rate(self.config.fps))
        keys = ColumnKeys(TEXT, ACTION, STATE)
        return schema_text(self._writer.name, meaning, cameras, keys)
