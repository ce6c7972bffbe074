"""Writes RLDS directories without TensorFlow; tensorflow-datasets can open them.

Shards are written under a temporary name and renamed when complete, so that a directory never
contains a partial one. Several processes may write shards of the same split; `finish` counts them
and writes the two JSON files, without which the directory is not recognised as a data set.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np

from depthtok.disk.files import commit_file, make_directory, output_errors, write_atomic
from depthtok.disk.temporaries import temporary_sibling
from depthtok.errors import OutputError, SourceError
from depthtok.sources.episode import RAGGED
from depthtok.sources.example import encode_example
from depthtok.sources.features import Feature, Features, to_json
from depthtok.sources.pixels import encode_image
from depthtok.sources.rlds import FEATURES
from depthtok.sources.shards import INFO, TEMPLATE, Shard, shard_numbers
from depthtok.sources.tfrecord import OVERHEAD, frame, read_records

EpisodeValues = Mapping[str, object]  # by path: [T, *shape] or T values; one value if not per step


@dataclass(frozen=True)
class RldsWriter:
    """Writes one data set to `path`, the version directory.

    An episode is a mapping from every feature's path to its values: arrays, or T strings; images
    may also be already encoded bytes. Raises `SourceError` for values that do not match their
    feature, `OutputError` if the directory cannot be written.
    """

    path: Path
    name: str
    version: str
    features: Features
    description: str = ""

    def write_shard(
        self, split: str, index: int, of: int, episodes: Iterable[EpisodeValues]
    ) -> Shard:
        """Writes shard `index` of `of` atomically. An existing one is replaced."""
        shard = self._shard_path(split, index, of)
        with commit_file(shard) as partial:
            count = self._fill(partial, episodes)
        return Shard(shard, index, of, count)

    def write(
        self, split: str, episodes: Iterable[EpisodeValues], episodes_per_shard: int
    ) -> list[Shard]:
        """Writes a stream of episodes as shards of `episodes_per_shard`, the last with the rest.

        The number of shards is part of their names, so none gets its name before the last is
        written.
        """
        stream = iter(episodes)
        partials: list[Path] = []
        counts: list[int] = []
        try:
            for first in stream:
                partials.append(temporary_sibling(self._shard_path(split, len(partials), 0)))
                members = chain([first], islice(stream, episodes_per_shard - 1))
                counts.append(self._fill(partials[-1], members))
            shards = [
                Shard(self._shard_path(split, index, len(counts)), index, len(counts), count)
                for index, count in enumerate(counts)
            ]
            for partial, shard in zip(partials, shards, strict=True):
                with output_errors(shard.path):
                    partial.replace(shard.path)
        finally:
            for partial in partials:
                with suppress(OSError):  # the original error says more
                    partial.unlink()
        return shards

    def finish(self) -> Path:
        """Writes features.json and dataset_info.json for the existing shards.

        Raises `OutputError` if a split lacks a shard.
        """
        splits = [self._split(name, paths) for name, paths in sorted(self._present().items())]
        if not splits:
            raise OutputError(
                f"{self.path} has no shard of {self.name!r}", remedy="write episodes first"
            )
        info = {
            "name": self.name,
            "version": self.version,
            "description": self.description,
            "fileFormat": "tfrecord",
            "moduleName": "depthtok",
            "splits": splits,
        }
        for file, content in ((FEATURES, to_json(self.features)), (INFO, info)):
            write_atomic(self.path / file, json.dumps(content, indent=2) + "\n")
        return self.path

    def _shard_path(self, split: str, index: int, of: int) -> Path:
        numbers = "-of-".join(shard_numbers(index, of))
        return self.path / f"{self.name}-{split}.tfrecord-{numbers}"

    def _fill(self, path: Path, episodes: Iterable[EpisodeValues]) -> int:
        count = 0
        encoded = (frame(encode_episode(episode, self.features)) for episode in episodes)
        with output_errors(path):
            make_directory(path.parent)
            file = path.open("wb", buffering=0)  # so that closing cannot fail on a full disk
        with file:
            for record in encoded:  # an OSError raised by the episodes is not ours
                with output_errors(path):
                    remaining = memoryview(record)
                    while remaining:
                        remaining = remaining[file.write(remaining) :]
                count += 1
            with output_errors(path):
                os.fsync(file.fileno())
        return count

    def _present(self) -> dict[str, list[Path]]:
        """The shards in the directory, by split, in order."""
        shards: dict[str, list[Path]] = {}
        name = re.compile(re.escape(self.name) + r"-(.+)\.tfrecord-\d{5,}-of-\d{5,}")
        for path in sorted(self.path.glob("*.tfrecord-*")):
            if match := name.fullmatch(path.name):
                shards.setdefault(match[1], []).append(path)
        return shards

    def _split(self, split: str, paths: list[Path]) -> dict:
        of = int(paths[0].name.rsplit("-", 1)[1])
        missing = {self._shard_path(split, index, of) for index in range(of)} ^ set(paths)
        if missing:
            names = ", ".join(sorted(path.name for path in missing)[:4])
            raise OutputError(
                f"split {split} in {self.path} is incomplete, or two are mixed: {names}",
                remedy="write the missing shards, or remove those of another run",
            )
        lengths = [sum(1 for _ in read_records(path)) for path in paths]
        num_bytes = sum(path.stat().st_size for path in paths) - OVERHEAD * sum(lengths)
        return {
            "name": split,
            "shardLengths": [str(length) for length in lengths],
            "numBytes": str(num_bytes),
            "filepathTemplate": TEMPLATE,
        }


def encode_episode(episode: EpisodeValues, features: Features) -> bytes:
    """One episode as a serialized tf.train.Example. Raises `SourceError` for a mismatch."""
    if unknown := sorted(set(episode) ^ set(features)):
        raise SourceError(
            f"the episode's values and the features differ in {', '.join(unknown)}",
            remedy="give exactly one entry for every feature",
        )
    columns = {
        name: column
        for path, feature in features.items()
        for name, column in _columns(path, episode[path], feature)
    }
    steps = {path: len(_entries(episode[path], f)) for path, f in features.items() if f.per_step}
    if len(set(steps.values())) > 1:
        raise SourceError(f"the features have different numbers of steps: {steps}")
    return encode_example(columns)


def _columns(
    path: str, values: object, feature: Feature
) -> Iterator[tuple[str, np.ndarray | list[bytes]]]:
    """Name and content of the lists that hold a feature: one, or two for lists of texts by step."""
    if feature.kind != "text" or not feature.shape:
        yield path, _column(values, feature)
        return
    lists = [_collection(entry, feature) for entry in _entries(values, feature)]
    texts = [_text(text, feature) for texts in lists for text in texts]
    if feature.per_step and feature.shape == (None,):
        flat, lengths = (path + suffix for suffix in RAGGED)
        yield flat, texts
        yield lengths, np.array([len(texts) for texts in lists], np.int64)
    else:
        yield path, texts


def _column(values: object, feature: Feature) -> np.ndarray | list[bytes]:
    """The values as the content of one list of an example."""
    entries = _entries(values, feature)
    if feature.kind == "text":
        return [_text(text, feature) for text in entries]
    if feature.kind == "image":
        return [
            image
            if isinstance(image, bytes)
            else encode_image(_array(image, feature.shape, feature), feature)
            for image in entries
        ]
    if feature.encoding in ("bytes", "zlib"):
        raw = [_array(entry, feature.shape, feature).tobytes() for entry in entries]
        return [zlib.compress(data) for data in raw] if feature.encoding == "zlib" else raw
    array = _array(entries, (len(entries), *feature.shape), feature)
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def _entries(values: object, feature: Feature) -> Collection[object]:
    """The values of each step, or the one of the episode."""
    return _collection(values, feature) if feature.per_step else [values]


def _collection(values: object, feature: Feature) -> Collection[object]:
    if isinstance(values, str | bytes) or not isinstance(values, Collection):
        raise SourceError(f"{feature.path}: {type(values).__name__} is neither an array nor a list")
    return values


def _text(text: object, feature: Feature) -> bytes:
    """A text as UTF-8; bytes as they are."""
    if isinstance(text, str):
        return text.encode()
    if not isinstance(text, bytes):
        raise SourceError(f"{feature.path}: {type(text).__name__} is not a text")
    return text


def _array(values: object, shape: tuple[int | None, ...], feature: Feature) -> np.ndarray:
    """Values in the feature's dtype, little-endian. Integers must not change by the cast."""
    try:
        original = np.asarray(values)
        with np.errstate(invalid="ignore"):
            array = np.ascontiguousarray(original, np.dtype(feature.dtype).newbyteorder("<"))
    except (TypeError, ValueError, OverflowError) as error:
        raise SourceError(
            f"{feature.path}: cannot be an array of {feature.dtype} ({error})"
        ) from error
    if array.dtype.kind != "f" and not np.array_equal(array, original):
        raise SourceError(f"{feature.path}: {original.dtype} values do not fit {feature.dtype}")
    if len(original.shape) != len(shape) or any(
        declared not in (None, actual)
        for actual, declared in zip(original.shape, shape, strict=True)
    ):
        raise SourceError(f"{feature.path}: shape {original.shape}, but {shape} is declared")
    return array.reshape(original.shape)
