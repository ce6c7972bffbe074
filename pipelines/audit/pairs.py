"""Clips shared by two DepthStores, one estimated and one true, and where the gripper is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from depthtok.data import EpisodeKey
from depthtok.errors import ConfigError, CorruptRecord, DepthKindError, SourceError, StaleStore
from depthtok.log import warn
from depthtok.required import require
from depthtok.stores.depth import DepthStore, StoredDepth
from depthtok.stores.origin import FRAMES, frames_of, same_frames
from depthtok.stores.parts import Part, ShardKey
from depthtok.stores.stored_episode import StoredEpisode, StoredFrames
from pipelines.audit.audit import Pair
from pipelines.audit.height import Rays
from pipelines.audit.poses import Poses
from pipelines.audit.regions import dilated
from pipelines.config import require_distinct
from pipelines.depth.truth import episodes_of

NEAR = 16  # pixels within 1 / NEAR of the frame's height count as near the gripper


def paired(
    estimated: DepthStore,
    truth: DepthStore,
    cameras: Sequence[str] | None = None,
    source_root: Path | None = None,
    heights: Mapping[str, float] | None = None,
    *,
    poses: bool = False,
) -> Iterator[Pair]:
    """The clips of the same episode and camera in both, in the order of the estimates.

    `heights` is how far a camera is from the plane that fills most of its image, m, where known.
    `poses` asks for where cameras stood at every step, from the data set itself.

    Raises `DepthKindError` if the truth is not in metres, `ConfigError` for a camera that one of
    them lacks, `SourceError` if no clip is in both, `StaleStore` if they are of other frames.
    """
    if truth.kind != "metres":
        raise DepthKindError(
            f"{truth.path} has {truth.kind}, not ground-truth depth",
            remedy="make it with `depthtok annotate --estimator dataset`",
        )
    require_distinct("camera", cameras or ())
    names = list(cameras or [name for name in estimated.cameras if name in truth.cameras])
    for name in names:
        estimated.require_camera(name), truth.require_camera(name)
    if not names:
        raise ConfigError(
            f"the stores share no camera: {', '.join(estimated.cameras)} and "
            f"{', '.join(truth.cameras)}",
            remedy="annotate the same cameras",
        )
    for name in heights or ():
        require(name in names, "camera_height", name, f"name one of {', '.join(names)}")
    _require_same_frames(estimated, truth, names)
    source = _Source(truth, source_root, poses=poses)
    true = {(clip.key, clip.camera): clip for name in names for clip in truth.clips(name)}
    clips = [clip for name in names for clip in estimated.clips(name)]
    clips = [clip for clip in clips if (clip.key, clip.camera) in true]
    if not clips:
        raise SourceError(
            f"no episode is in both {estimated.path} and {truth.path}",
            remedy="annotate the same data set twice: once by an estimator, once with `dataset`",
        )
    return (_pair(clip, true[clip.key, clip.camera], source, heights or {}) for clip in clips)


def _require_same_frames(estimated: DepthStore, truth: DepthStore, cameras: Sequence[str]) -> None:
    """Raises `StaleStore` where parts of one shard record other frames of these cameras; warns
    where they do not record them."""
    of_truth: dict[ShardKey, list[Part]] = {}
    for part in truth.parts():
        of_truth.setdefault(part.shard, []).append(part)
    same = [
        same_frames(*({FRAMES: frames_of(part.meta, cameras, ("rgb",))} for part in (one, two)))
        for one in estimated.parts()
        for two in of_truth.get(one.shard, ())
    ]
    if others := same.count(False):
        raise StaleStore(
            f"{estimated.path} and {truth.path} are of other frames ({others} of {len(same)} "
            "parts): the data set, or how its schema reads them, changed between them",
            remedy="run `depthtok convert`, and `annotate` for both, again: each makes just the "
            "parts that changed anew; after an edit of the schema give `annotate` another --out",
        )
    if unknown := same.count(None):
        warn(
            f"{unknown} of {len(same)} parts of {estimated.path} or {truth.path} do not record of "
            "which frames they were made: that they are of the same ones is not known"
        )


def _pair(
    clip: StoredDepth, true: StoredDepth, source: _Source, heights: Mapping[str, float]
) -> Pair:
    if len(clip) != len(true):
        raise SourceError(
            f"{clip.key}: {len(clip)} estimated frames, {len(true)} true frames",
            remedy="make both from the same EpisodeStore",
        )
    rays = source.rays(true)
    if rays is None and clip.camera in heights:
        raise ConfigError(
            f"{clip.key}: the intrinsics of camera {clip.camera!r} are not known, so its height "
            "tests nothing",
            remedy="name them in the data set's schema (intrinsics_key) and convert again, or "
            "leave --camera-height out",
        )
    near, height_m = source.near(clip, clip.store.size), heights.get(clip.camera)
    poses = source.poses(clip)
    return Pair(clip.key, clip.camera, len(clip), clip.read, true.read, near, rays, height_m, poses)


class _Source:
    """What the episodes know that the truth was made from, if they are still there: the area around
    the gripper, for cameras whose segmentation includes it, the intrinsics, and, if asked for, the
    poses."""

    def __init__(self, truth: DepthStore, source_root: Path | None, *, poses: bool) -> None:
        self._classes: dict[str, int] = {}  # by camera: the gripper's number
        self._rows: dict[EpisodeKey, StoredEpisode] = {}
        self._poses: Poses | None = None
        self._without: set[str] = set()  # cameras with a clip whose poses are not right
        if not (truth.source("episodes") / "zarr.json").is_file():
            return
        episodes = episodes_of(truth, source_root)
        for camera, numbers in episodes.segmentation_classes.items():
            if "gripper" in numbers:
                self._classes[camera] = numbers["gripper"]
        self._rows = {episode.key: episode for episode in episodes}
        self._poses = Poses(episodes) if poses else None

    def poses(self, clip: StoredDepth) -> Float[np.ndarray, "T 4 4"] | None:
        """Where the camera stood at every step; None if that is unknown, or was not asked for, and,
        with a warning for the first of a camera, where it cannot be: its steps may not all be kept.
        """
        if self._poses is None:
            return None
        try:
            return self._poses.of(clip.key, clip.camera, len(clip))
        except CorruptRecord as error:
            if clip.camera not in self._without:
                warn(f"{error.problem}: clips like it are compared, but have no alignment error")
            self._without.add(clip.camera)
            return None

    def near(
        self, clip: StoredDepth, size: tuple[int, int]
    ) -> Callable[[int, int], Bool[np.ndarray, "n H W"]] | None:
        """The pixels near the gripper in a clip, at `size`; None if unknown."""
        number = self._classes.get(clip.camera)
        if number is None:
            return None
        frames: StoredFrames = self._rows[clip.key].frames(clip.camera)

        def near(start: int, stop: int) -> Bool[np.ndarray, "n H W"]:
            gripper = frames.segmentation(start, stop) == number
            return dilated(_resized(gripper, size), max(1, size[0] // NEAR))

        return near

    def rays(self, clip: StoredDepth) -> Rays | None:
        """Where the pixels of the truth look; None if the intrinsics are unknown."""
        if clip.key not in self._rows:
            return None
        episode = self._rows[clip.key]
        camera, matrix = episode.cameras[clip.camera], episode.intrinsics(clip.camera)
        if matrix is None or camera.height is None or camera.width is None:
            return None
        if not (matrix.diagonal() > 0).all():
            return None
        published = camera.height, camera.width
        return Rays.of(matrix, published, clip.store.size, camera.orientation)


def _resized(marks: Bool[np.ndarray, "n H W"], size: tuple[int, int]) -> Bool[np.ndarray, "n h w"]:
    if marks.shape[1:] == size:
        return marks
    pictures = (Image.fromarray(frame) for frame in marks)
    rule = Image.Resampling.NEAREST
    return np.stack([np.asarray(p.resize((size[1], size[0]), rule), bool) for p in pictures])
