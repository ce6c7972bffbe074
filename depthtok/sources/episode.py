"""One raw episode of a shard, decoded on demand."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path

import google_crc32c
import numpy as np
from jaxtyping import UInt32, UInt64

from depthtok.errors import CorruptRecord, SourceError, did_you_mean
from depthtok.sources.example import BYTES, FLOATS, ExampleFeature, parse_example, varint_boundaries
from depthtok.sources.features import Feature, Features
from depthtok.sources.pixels import decode_image, decode_tensor, filled
from depthtok.sources.tfrecord import HEADER

LARGEST_VALUES = 1 << 30  # bytes of one feature in one episode, where they are decompressed
RAGGED = ("/ragged_flat_values", "/ragged_row_lengths_0")


@dataclass(frozen=True)
class Spans:
    """The location of every step of a feature in the shard file, and the checksum of its bytes.

    `length` bytes at `offset` are the input of `PixelFormat.decode`.
    """

    offset: UInt64[np.ndarray, " T"]
    length: UInt32[np.ndarray, " T"]
    crc32c: UInt32[np.ndarray, " T"]

    def __getitem__(self, steps: slice) -> Spans:
        """Those of some steps."""
        return Spans(self.offset[steps], self.length[steps], self.crc32c[steps])


@dataclass(frozen=True)
class RawEpisode:
    """Record `index` of a shard, whose frame begins at byte `offset`. `len` is the number of steps.

    Values are as in the data set; names are paths of features. All methods raise `SourceError` for
    a feature that does not exist or is of another kind than requested, and `CorruptRecord` for
    bytes that do not match the feature.
    """

    shard: Path
    index: int
    offset: int
    data: bytes = field(repr=False)
    features: Features = field(repr=False)

    @property
    def where(self) -> str:
        """File, record and byte, for messages."""
        return f"{self.shard}: record {self.index} at byte {self.offset}"

    @cached_property
    def _columns(self) -> dict[str, ExampleFeature]:
        return parse_example(self.data, self.where)

    @cached_property
    def _steps(self) -> int:
        likely = sorted(self.features, key=lambda path: path != "steps/is_first")
        for path in likely:
            count = self._entries(self.features[path])
            if count is not None:
                return count
        raise CorruptRecord(f"{self.where}: no feature determines the number of steps")

    def __len__(self) -> int:
        return self._steps

    def _entries(self, feature: Feature) -> int | None:
        """The number of steps according to a feature, or None if it does not determine it."""
        column = self._columns.get(feature.path)
        if column is None or not feature.per_step or feature.kind == "other":
            return None
        one_item_per_step = feature.kind == "image" or feature.encoding in ("bytes", "zlib")
        if column.kind == BYTES and (one_item_per_step or feature.shape == ()):
            return len(column.spans())
        if column.kind == BYTES or not feature.size:
            return None
        count = len(column.floats() if column.kind == FLOATS else column.ints())
        if count % feature.size:
            raise self._corrupt(feature, f"{count} values are not whole steps of {feature.shape}")
        return count // feature.size

    def values(self, path: str) -> np.ndarray:
        """[T, *shape] for a per-step feature, [*shape] for another, in its dtype.

        bfloat16 becomes float32. Images are decoded. An unknown dimension is inferred from the
        data, and must be the same at every step. Raises `SourceError` for a text.
        """
        feature = self._feature(path)
        if feature.kind in ("text", "other"):
            raise SourceError(
                f"{path} has no numeric values (it is {feature.encoding or feature.kind})",
                remedy="use text() for text" if feature.kind == "text" else "leave it out",
            )
        if feature.encoding == "none":
            return self._from_list(feature)
        return self._from_bytes(feature)

    def text(self, path: str) -> list[str] | str:
        """T strings for a per-step feature, one string for another. Bytes that are not UTF-8
        become U+FFFD. Raises `SourceError` for numbers and lists."""
        feature = self._feature(path)
        if feature.kind != "text" or feature.shape:
            raise SourceError(
                f"{path} is not text per step or episode ({feature.kind}, shape {feature.shape})",
                remedy="use values() for numbers",
            )
        column = self._column(path)
        texts = [item.decode("utf-8", "replace") for item in column.items()]
        self._check_count(feature, len(texts))
        return texts if feature.per_step else texts[0]

    def texts(self, path: str) -> list[tuple[str, ...]]:
        """All texts of a text, or of a list of texts: T entries for a per-step feature, one entry
        for another. Bytes that are not UTF-8 become U+FFFD. Raises `SourceError` for numbers."""
        feature = self._feature(path)
        if not feature.shape:
            text = self.text(path)
            return [(str(text),)] if isinstance(text, str) else [(entry,) for entry in text]
        if feature.kind != "text" or len(feature.shape) > 1:
            raise SourceError(
                f"{path} is not a list of texts ({feature.kind}, shape {feature.shape})",
                remedy="use values() for numbers",
            )
        flat, rows = (path + suffix for suffix in RAGGED)
        ragged = flat in self._columns
        items = self._column(flat if ragged else path).items()
        entries = len(self) if feature.per_step else 1
        if ragged:  # each step has a number of its own
            counts = self._column(rows).ints().tolist()
            self._check_count(feature, len(counts))
        else:
            counts = [len(items) // max(entries, 1)] * entries
        if sum(counts) != len(items) or min(counts, default=0) < 0:
            raise self._corrupt(feature, f"{len(items)} texts in lists of {counts[:8]}")
        texts = iter(item.decode("utf-8", "replace") for item in items)
        return [tuple(islice(texts, count)) for count in counts]

    def items(self, path: str) -> list[bytes]:
        """The bytes of every step of an image or of a tensor stored as bytes, as input of
        `PixelFormat.decode`. One entry for a per-episode feature."""
        feature = self._feature(path)
        items = self._column(path).items()
        self._check_count(feature, len(items))
        return items

    def spans(self, path: str) -> Spans:
        """The location of every step of a feature: encoded images, zlib and raw tensors, and
        ranges of float and integer lists. A per-episode feature has one span."""
        feature = self._feature(path)
        column = self._column(path)
        if column.kind == BYTES:
            ranges = np.array(column.spans(), np.uint64).reshape(-1, 2)
            starts, stops = ranges[:, 0], ranges[:, 1]
        else:
            starts, stops = self._list_ranges(feature, column)
        self._check_count(feature, len(starts))
        view = np.frombuffer(self.data, np.uint8)
        checks = [
            google_crc32c.value(view[start:stop])
            for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
        ]
        base = np.uint64(self.offset + HEADER.size)
        return Spans(starts + base, (stops - starts).astype(np.uint32), np.array(checks, np.uint32))

    def bytes_at(self, spans: Spans) -> list[bytes]:
        """The bytes of what `spans` gave, or of some steps of it."""
        starts = (spans.offset - np.uint64(self.offset + HEADER.size)).tolist()
        sizes = spans.length.tolist()
        return [self.data[k : k + size] for k, size in zip(starts, sizes, strict=True)]

    def _list_ranges(
        self, feature: Feature, column: ExampleFeature
    ) -> tuple[np.ndarray, np.ndarray]:
        """Starts and stops of the steps of a packed list, within the record."""
        size = feature.size
        runs = column.packed(column.kind) if column.kind else []
        if size is None or size == 0 or len(runs) > 1:
            raise SourceError(
                f"{self.where}: the steps of {feature.path} are not contiguous",
                remedy="read it with values()",
            )
        start, stop = runs[0] if runs else (0, 0)
        if column.kind == FLOATS:
            count, rest = divmod((stop - start) // 4, size)
            ends = np.uint64(start) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(4 * size)
        else:
            ends, count = varint_boundaries(self.data, start, stop, size)
            rest = count % size
        if rest:
            raise self._corrupt(feature, f"its list does not hold whole steps of {feature.shape}")
        return np.concatenate((np.array([start], np.uint64), ends[:-1]))[: len(ends)], ends

    def _from_list(self, feature: Feature) -> np.ndarray:
        """A tensor stored as a float or integer list."""
        shape = feature.shape
        value_path, length_path = (feature.path + suffix for suffix in RAGGED)
        ragged = value_path in self._columns
        column = self._column(value_path if ragged else feature.path)
        if ragged:  # a sequence inside the steps
            lengths = np.unique(self._column(length_path).ints())
            if len(lengths) > 1:
                raise SourceError(
                    f"{self.where}: {feature.path} has {lengths[0]} to {lengths[-1]} entries per "
                    "step, which do not form an array",
                    remedy="leave it out",
                )
            shape = (*lengths.tolist(), *shape[1:]) if len(lengths) else shape
        if "float" in feature.dtype:
            dtype = "float32" if feature.dtype == "bfloat16" else feature.dtype
            values = column.floats().astype(dtype, copy=False)
        else:
            values = column.ints(feature.dtype)
        if feature.per_step:
            shape = (len(self), *shape)
        try:
            return filled(values, shape)
        except CorruptRecord as error:
            raise self._corrupt(feature, error.problem) from error

    def _from_bytes(self, feature: Feature) -> np.ndarray:
        """A tensor of bytes or an image: one byte string per step."""
        items, shapes = self._shaped_items(feature)
        self._check_count(feature, len(items))
        out: np.ndarray | None = None
        for step, (item, shape) in enumerate(zip(items, shapes, strict=True)):
            try:
                if feature.kind == "image":
                    value = decode_image(item, feature.dtype, shape)
                else:
                    encoding = "zlib" if feature.encoding == "zlib" else "raw"
                    value = decode_tensor(item, encoding, feature.dtype, shape)
            except CorruptRecord as error:
                raise self._corrupt(feature, f"step {step}: {error.problem}") from error
            if not feature.per_step:
                return value
            if out is None:
                self._check_bytes(feature, len(items) * value.nbytes)
                out = np.empty((len(items), *value.shape), value.dtype)
            if out.shape[1:] != value.shape:
                raise SourceError(f"{self.where}: {feature.path} changes shape at step {step}")
            out[step] = value
        if out is not None:
            return out
        dtype = "float32" if feature.dtype == "bfloat16" else feature.dtype
        return np.empty((0, *(size or 0 for size in feature.shape)), dtype)

    def _shaped_items(self, feature: Feature) -> tuple[list[bytes], list[tuple[int | None, ...]]]:
        """The byte strings of a feature and the shape of each.

        If several dimensions are unknown, the record stores them with the value.
        """
        path = feature.path
        if feature.kind != "image" and feature.shape.count(None) > 1:
            items = self._column(f"{path}/value").items()
            sizes, rank = self._column(f"{path}/shape").ints().tolist(), len(feature.shape)
            if len(sizes) != len(items) * rank:
                raise self._corrupt(feature, f"{len(sizes)} sizes for {len(items)} values")
            return items, [tuple(sizes[i : i + rank]) for i in range(0, len(sizes), rank)]
        items = self._column(path).items()
        return items, [feature.shape] * len(items)

    def _feature(self, path: str) -> Feature:
        if path not in self.features:
            raise SourceError(
                f"the data set has no feature {path!r}",
                remedy=did_you_mean(path, list(self.features)),
            )
        return self.features[path]

    def _column(self, path: str) -> ExampleFeature:
        column = self._columns.get(path)
        if column is None and any(key.startswith(f"{path}/") for key in self._columns):
            raise SourceError(
                f"{self.where}: {path} may change shape between steps",
                remedy="read it with values(), which needs a constant shape within an episode",
            )
        if column is None:
            raise CorruptRecord(
                f"{self.where}: {path} is declared in features.json but not in the record",
                remedy="features.json belongs to other data, or the data set was reduced",
            )
        return column

    def _check_count(self, feature: Feature, count: int) -> None:
        expected = len(self) if feature.per_step else 1
        if count != expected:
            raise self._corrupt(feature, f"{count} entries instead of {expected}")

    def _check_bytes(self, feature: Feature, size: int) -> None:
        if size > LARGEST_VALUES:
            raise self._corrupt(
                feature, f"{size / 1e9:.1f} GB in one episode, more than {LARGEST_VALUES / 1e9:.1f}"
            )

    def _corrupt(self, feature: Feature, reason: str) -> CorruptRecord:
        return CorruptRecord(
            f"{self.where}: {feature.path}: {reason}",
            remedy="features.json does not match the data, or the data were written incorrectly",
        )
