"""meta/info.json of a LeRobot data set: its version, rate, features, splits and path templates."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from depthtok.errors import SourceError
from depthtok.frames.depth_codes import PIXELS, DepthCodes
from depthtok.json_values import JsonObject, value_of
from depthtok.sources.features import read_json
from depthtok.sources.files import NamedFeature

VERSIONS = ("v2.1", "v3.0")
INFO = "meta/info.json"
TASK = "task"
"""The text of a step's task, as a feature beside those of info.json."""

_CODES = ("depth_min", "depth_max", "shift", "use_log")
_NUMBERS = re.compile(r"(u?int(8|16|32|64)|float(16|32|64)|bool)")


@dataclass(frozen=True)
class Info:
    """What info.json says. `about` has, by video or image feature, its `info` table."""

    version: str
    fps: float | None
    features: Mapping[str, NamedFeature]
    about: Mapping[str, JsonObject]
    videos: frozenset[str]  # features that are videos
    images: frozenset[str]  # features that are pictures in the parquet
    splits: Mapping[str, tuple[int, int]]  # ranges of episode indices
    chunks_size: int
    data_path: str
    video_path: str
    total_episodes: int | None = None
    total_frames: int | None = None

    @property
    def is_v3(self) -> bool:
        """Whether files hold many episodes."""
        return self.version == "v3.0"

    @property
    def episodes(self) -> int:
        """How many episodes the splits speak of."""
        return max((stop for _, stop in self.splits.values()), default=0)

    @property
    def depth(self) -> frozenset[str]:
        """The features that are depth maps."""
        return frozenset(key for key, about in self.about.items() if _is_depth(about))

    def codes(self, key: str) -> DepthCodes:
        """How the codes of a depth video become metres. Raises `SourceError`."""
        about = self.about[key]
        pixels = about.get("video.pix_fmt", PIXELS)
        if pixels != PIXELS:
            raise SourceError(
                f"{INFO}: the depth video {key!r} has pixels {pixels!r}, not {PIXELS!r}",
                remedy="leave its depth_key out of the schema",
            )
        table = {name: about.get(f"video.{name}", about.get(name)) for name in _CODES}
        return DepthCodes.from_json(table)

    def data_file(self, chunk: int, file: int) -> str:
        """The parquet of a chunk and file (v2.1: an episode), relative to the data set."""
        return self._file(self.data_path, chunk, file)

    def video_file(self, key: str, chunk: int, file: int) -> str:
        """The video of a camera in a chunk and file (v2.1: an episode)."""
        return self._file(self.video_path, chunk, file, key)

    def _file(self, template: str, chunk: int, file: int, key: str = "") -> str:
        values = {"video_key": key, "chunk_index": chunk, "file_index": file}
        values |= {"episode_chunk": chunk, "episode_index": file}
        try:
            name = template.format(**values)
        except (KeyError, ValueError, IndexError) as error:
            raise SourceError(
                f"{INFO}: {template!r} is no path template ({error!r})", remedy="correct it"
            ) from error
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\0" in name:
            raise SourceError(
                f"{INFO}: {template!r} does not name a file of the data set",
                remedy="files must be inside the directory",
            )
        return name


def read_info(root: Path) -> Info:
    """Reads info.json. Raises `SourceError` for what is not read, and says what to do."""
    info = read_json(root / INFO)
    version = str(info.get("codebase_version"))
    if version not in VERSIONS:
        raise SourceError(
            f"{root} is a LeRobot data set of version {version}; {' and '.join(VERSIONS)} are read",
            remedy="convert it with lerobot's own scripts (lerobot.scripts.convert_dataset_*), or "
            "update depthtok",
        )
    storage = info.get("storage_format") or "parquet"
    if storage != "parquet":
        raise SourceError(
            f"{root} keeps its data as {storage!r} (storage_format), which is not read",
            remedy="write it as parquet and mp4, lerobot's default, and convert that",
        )
    try:
        parsed = _parsed(info, version)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SourceError(
            f"{root / INFO} is not as LeRobot writes it ({error!r})", remedy="download it again"
        ) from error
    if len({parsed.video_file(key, 0, 0) for key in parsed.videos}) < len(parsed.videos):
        raise SourceError(
            f"{root / INFO}: video_path {parsed.video_path!r} gives all cameras one file",
            remedy="write {video_key} into it",
        )
    return parsed


def _parsed(info: dict, version: str) -> Info:
    features: dict[str, NamedFeature] = {}
    about: dict[str, JsonObject] = {}
    videos: set[str] = set()
    images: set[str] = set()
    for key, table in value_of(info, "features", dict).items():
        if "/" in key or "\0" in key:
            raise ValueError(f"a feature called {key!r}")
        details = table.get("info") or table.get("video_info") or {}
        kind = str(table["dtype"])
        if kind in ("video", "image"):
            (videos if kind == "video" else images).add(key)
            about[key] = details
            features[key] = _picture(key, table, kind, depth=_is_depth(details))
        else:
            features[key] = _column(key, table)
    features.setdefault(TASK, NamedFeature(TASK, "text", "str"))
    splits = {}
    for name, text in (info.get("splits") or {"train": f"0:{info['total_episodes']}"}).items():
        start, _, stop = str(text).partition(":")
        splits[str(name)] = int(start), int(stop)
        if not 0 <= int(start) <= int(stop):
            raise ValueError(f"the split {name!r} has episodes {text}")
    rate, chunk = float(info.get("fps") or 0), int(info["chunks_size"])
    if not 0 <= rate < math.inf or chunk < 1:
        raise ValueError(f"fps = {rate}, chunks_size = {chunk}")
    return Info(
        version,
        rate or None,
        features,
        about,
        frozenset(videos),
        frozenset(images),
        splits,
        chunk,
        str(info["data_path"]),
        str(info.get("video_path") or ""),
        *(int(info[name]) if name in info else None for name in ("total_episodes", "total_frames")),
    )


def _picture(key: str, table: dict, kind: str, *, depth: bool) -> NamedFeature:
    """A video or an image: uint8 [H, W, 3]; depth videos are metres, depth pictures 16 bits."""
    shape = [int(size) for size in table["shape"]]
    names = [str(name) for name in _flat(table.get("names"))]
    if len(shape) == 3:
        first = names[0].startswith("channel") if names else shape[0] in (1, 3) and shape[2] > 3
        shape = [*shape[1:], shape[0]] if first else shape
    dtype = ("float32" if kind == "video" else "uint16") if depth else "uint8"
    return NamedFeature(key, "image", dtype, tuple(shape), kind)


def _column(key: str, table: dict) -> NamedFeature:
    """A column of the parquet; what is neither numbers nor text is kept as "other"."""
    dtype, shape = str(table["dtype"]), tuple(int(size) for size in table["shape"])
    if dtype == "string":
        return NamedFeature(key, "text", "str", () if shape == (1,) else shape)
    if not _NUMBERS.fullmatch(dtype):
        return NamedFeature(key, "other", dtype, shape, dtype)
    names = tuple(_flat(table.get("names")))
    fits = len(names) == (shape[0] if len(shape) == 1 else -1)
    return NamedFeature(key, "tensor", dtype, shape, "none", names=names if fits else ())


def _flat(names: object) -> Iterator[str]:
    """The names in lists of lists, or in tables of lists."""
    if isinstance(names, Mapping):
        for value in names.values():
            yield from _flat(value)
    elif isinstance(names, Sequence) and not isinstance(names, str):
        for value in names:
            yield from _flat(value)
    elif names is not None:
        yield str(names)


def _is_depth(about: JsonObject) -> bool:
    """Whether `is_depth_map`, or `video.is_depth_map` of older versions, is true."""
    return any(about.get(name) is True for name in ("is_depth_map", "video.is_depth_map"))
