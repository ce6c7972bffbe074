"""Settings of an export. Every one changes its bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from depthtok.required import require
from pipelines.config import require_distinct

FORMATS = ("lerobot", "rlds")
CODECS = ("av1", "h264")
"""Of RGB videos. libx265 is not among them: its lossy bytes differ from run to run."""


@dataclass(frozen=True)
class ExportConfig:
    """What an export is made of."""

    format: Annotated[str, f"of the data set: {', '.join(FORMATS)}"] = "lerobot"
    camera: Annotated[tuple[str, ...], "cameras to export; all by default"] = ()
    name: Annotated[str, "of the data set; by default that of the episodes"] = ""
    fps: Annotated[float, "frames per second, where the episodes do not say it"] = 0.0
    copy: Annotated[bool, "copy packets of videos, where they can be, instead of encoding"] = True
    codec: Annotated[str, f"of RGB videos that are encoded: {', '.join(CODECS)}"] = "av1"
    crf: Annotated[int, "their quality: 0 is best, 63 (h264: 51) worst"] = 30
    key_frames: Annotated[int, "every how many frames of a video one needs no other"] = 2
    depth_min: Annotated[float, "the nearest depth of a depth video, m"] = 0.01
    depth_max: Annotated[float, "the farthest depth of a depth video, m"] = 10.0
    depth_shift: Annotated[float, "added to depth before the logarithm, m"] = 3.5
    depth_log: Annotated[bool, "logarithmic steps of depth, not equal ones"] = True
    molmoact: Annotated[str, "a camera whose codes are also written as MolmoAct2's columns"] = ""
    data_file_mb: Annotated[int, "the largest data file, MB (10^6 bytes in memory)"] = 100
    video_file_mb: Annotated[int, "the largest video file, MB (10^6 bytes)"] = 200
    episodes_per_shard: Annotated[int, "episodes in a shard of RLDS"] = 100

    def __post_init__(self) -> None:
        require_distinct("camera", self.camera)
        listed = ", ".join(FORMATS)
        require(self.format in FORMATS, "format", self.format, f"give one of {listed}")
        codecs = ", ".join(CODECS)
        require(self.codec in CODECS, "codec", self.codec, f"give one of {codecs}")
        worst = 63 if self.codec == "av1" else 51
        require(0 <= self.crf <= worst, "crf", self.crf, f"give 0 to {worst}")
        require(0 <= self.fps < 1e4, "fps", self.fps, "give the rate in Hz")
        for field in ("key_frames", "data_file_mb", "video_file_mb", "episodes_per_shard"):
            value = getattr(self, field)
            require(value > 0, field, value, "give 1 or more")
        _ = self.depth_codes  # raises

    @property
    def depth_codes(self):
        """The `DepthCodes` of depth videos: how metres become their codes."""
        from depthtok.frames.depth_codes import DepthCodes  # loads numpy, which --help must not

        return DepthCodes(self.depth_min, self.depth_max, self.depth_shift, self.depth_log)
