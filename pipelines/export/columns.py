"""The columns of LeRobot's data files, and what `info.json` says of every feature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from depthtok.frames.depth_codes import PIXELS
from depthtok.stores.stored_episode import StoredEpisode
from pipelines.export.config import ExportConfig
from pipelines.export.joined import Joined
from pipelines.export.names import CameraKeys
from pipelines.export.tables import Columns

STATE, ACTION = "observation.state", "action"
MOLMOACT = ("depth_codes", "buffer_codes", "depth_updated_mask")
"""The columns that MolmoAct2's trainer reads: the codes of a frame, those of a buffer in which only
cells that changed are replaced, and which cells these are."""

SCALARS = {
    "timestamp": "float32",
    **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), "int64"),
}


def columns_of(
    joined: Joined, episode: StoredEpisode, keys: Mapping[str, CameraKeys], config: ExportConfig
) -> Columns:
    """Codes, state and action of an episode."""
    columns: dict[str, np.ndarray] = {}
    for camera in joined.code_cameras:
        columns[keys[camera].codes] = joined.codes_of(episode, camera)
    if config.molmoact:
        codes = joined.codes_of(episode, config.molmoact)
        changed = np.ones(codes.shape, bool)
        changed[1:] = codes[1:] != codes[:-1]
        # with a cell being replaced wherever its code changed, the buffer has the codes themselves
        values = (codes.astype(np.int16), codes.astype(np.int16), changed)
        columns |= dict(zip(MOLMOACT, values, strict=True))
    if joined.episodes.proprio_dim:
        columns[STATE] = np.asarray(episode.proprio, np.float32)
    if joined.episodes.action_dim:  # recorded videos have none
        columns[ACTION] = np.asarray(episode.action, np.float32)
    return columns


def features_of(
    columns: Columns, videos: Mapping[str, Mapping[str, object]], names: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, object]]:
    """The table `features` of info.json: `videos` have their `info`, `names` the vectors that have
    them."""
    features: dict[str, dict[str, object]] = {}
    for key, info in videos.items():
        shape = [info["video.height"], info["video.width"], info["video.channels"]]
        sides = ["height", "width", "channels"]
        features[key] = {"dtype": "video", "shape": shape, "names": sides, "info": dict(info)}
    for key, values in columns.items():
        dtype = SCALARS.get(key, values.dtype.name)
        shape = [values.shape[1] if values.ndim == 2 else 1]
        listed = list(names[key]) if key in names else None
        features[key] = {"dtype": dtype, "shape": shape, "names": listed}
    return features


def video_info(
    size: tuple[int, int], codec: str, pixels: str, rate: float, how: Mapping[str, object]
) -> dict[str, object]:
    """What LeRobot says of a video; `how` is what it was encoded with, or {}."""
    return {
        "is_depth_map": pixels == PIXELS,
        "video.height": size[0],
        "video.width": size[1],
        "video.codec": codec,
        "video.pix_fmt": pixels,
        "video.fps": int(rate) if rate == int(rate) else rate,
        "video.channels": 1 if pixels == PIXELS else 3,
        "has_audio": False,
        **how,
    }
