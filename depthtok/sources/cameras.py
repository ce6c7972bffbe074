"""One camera of a schema: which features hold its images, depth, segmentation and intrinsics."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from depthtok.errors import SchemaError
from depthtok.orientation import Orientation
from depthtok.sources.columns import FeatureFacts, feature, number_kind
from depthtok.sources.features import values_in
from depthtok.sources.table import SchemaTable
from depthtok.stores.placeholders import NotMeasured

DEPTH_UNITS = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "unknown": None}
"""Metres per unit of stored depth. `unknown` records the key, but its values are refused. Any other
scale is written "m/<numbers in a metre>": "m/10000" is 0.1 mm."""

CHANNELS = ("rgb", "bgr")
"""Orders of the colours in a picture's bytes: `bgr` where OpenCV's were stored as they were."""


def depth_scale(unit: str, where: str) -> float | None:
    """Metres per unit of stored depth; None where that is unknown. Raises `SchemaError`."""
    if unit in DEPTH_UNITS:
        return DEPTH_UNITS[unit]
    number = re.fullmatch(r"m/(\d+(?:\.\d+)?)", unit)
    if not number or not float(number[1]):
        raise SchemaError(
            f"{where}: depth_unit = {unit!r}",
            remedy=f"write {', '.join(DEPTH_UNITS)}, or m/ and how many stored units are a metre: "
            "m/10000 where one is 0.1 mm, m/5000 where 5000 are a metre",
        )
    return 1 / float(number[1])


@dataclass(frozen=True)
class CameraSchema:
    """One camera. Keys are feature paths; None if absent.

    `depth_invalid` are stored values that are no measurement, `depth_max` is the depth in metres
    beyond which there is none. `segmentation_classes` maps names ("robot", "gripper", "objects",
    ...) to segmentation numbers. `present_key` is a flag by episode, false where the episode does
    not have the camera: only for data sets whose flags are right. `channels` is the order of the
    colours in the bytes. With `optional` a data set may lack the camera, with `depth_optional` its
    depth, segmentation and intrinsics.
    """

    name: str
    key: str
    orientation: Orientation = Orientation.UNKNOWN
    depth_key: str | None = None
    depth_unit: str | None = None
    segmentation_key: str | None = None
    segmentation_classes: Mapping[str, int] | None = None
    intrinsics_key: str | None = None
    optional: bool = False
    depth_optional: bool = False
    depth_invalid: tuple[float, ...] = ()
    depth_max: float | None = None
    channels: str = "rgb"
    present_key: str | None = None

    @classmethod
    def parse(cls, table: SchemaTable) -> CameraSchema:
        """Reads one `[[camera]]` table. Raises `SchemaError`."""
        orientations = tuple(str(orientation) for orientation in Orientation)
        camera = cls(
            name=table.take("name", str),
            key=table.take("key", str),
            orientation=Orientation(table.choice("orientation", orientations)),
            depth_key=table.take("depth_key", str, None),
            depth_unit=table.take("depth_unit", str, None),
            segmentation_key=table.take("segmentation_key", str, None),
            segmentation_classes=table.take("segmentation_classes", dict, None),
            intrinsics_key=table.take("intrinsics_key", str, None),
            optional=table.take("optional", bool, False),
            depth_optional=table.take("depth_optional", bool, False),
            depth_invalid=_depth_invalid(table),
            depth_max=table.take("depth_max", float, None),
            channels=table.choice("channels", CHANNELS, "rgb"),
            present_key=table.take("present_key", str, None),
        )
        table.finish()
        camera._check_depth(table.where)
        classes = camera.segmentation_classes
        if classes is not None and (
            camera.segmentation_key is None
            or not all(type(number) is int and number >= 0 for number in classes.values())
        ):
            raise SchemaError(
                f"{table.where}: segmentation_classes {classes} without segmentation_key, or with "
                "values that are not whole numbers",
                remedy="write segmentation_classes = { robot = 1, gripper = 2, objects = 3 }",
            )
        return camera

    @property
    def not_measured(self) -> NotMeasured:
        """Which values of the depth are not measurements."""
        return NotMeasured(self.depth_invalid, self.depth_max)

    def _check_depth(self, location: str) -> None:
        if (self.depth_key is None) != (self.depth_unit is None):
            raise SchemaError(
                f"{location}: depth_key and depth_unit must be given together",
                remedy=f"state both; units are {', '.join(DEPTH_UNITS)}, and m/10000 and the like",
            )
        if self.depth_unit is not None:
            depth_scale(self.depth_unit, location)
        if self.depth_key is None and (self.depth_invalid or self.depth_max is not None):
            raise SchemaError(
                f"{location}: depth_invalid or depth_max of a camera without depth_key",
                remedy="state depth_key and depth_unit, or leave these out",
            )
        if self.depth_max is not None and not 0 < self.depth_max < math.inf:
            raise SchemaError(
                f"{location}: depth_max = {self.depth_max:g} is no depth",
                remedy="write the largest depth in metres, such as depth_max = 10.0",
            )

    def to_json(self) -> dict:
        """The table that `parse` reads."""
        fields = {
            "name": self.name,
            "key": self.key,
            "orientation": str(self.orientation),
            "depth_key": self.depth_key,
            "depth_unit": self.depth_unit,
            "segmentation_key": self.segmentation_key,
            "segmentation_classes": self.segmentation_classes and dict(self.segmentation_classes),
            "intrinsics_key": self.intrinsics_key,
            "optional": self.optional,
            "depth_optional": self.depth_optional,
            "depth_invalid": list(self.depth_invalid) or None,
            "depth_max": self.depth_max,
            "channels": None if self.channels == "rgb" else self.channels,
            "present_key": self.present_key,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def fitted(self, features: Mapping[str, FeatureFacts], where: str) -> CameraSchema | None:
        """This camera without the optional keys that are not in `features`; None if the camera
        itself is optional and missing. Raises `SchemaError`, beginning with `where`, for features
        of another type."""
        location = f"{where}, camera {self.name!r}"
        if self.optional and self.key not in features:
            return None
        image = feature(features, self.key, location)
        if image.dtype != "uint8" or len(image.shape) != 3 or image.shape[2] not in (3, None):
            raise SchemaError(
                f"{location}: {self.key!r} is {image.kind} {image.dtype} {image.shape}, "
                "not an image",
                remedy="name a uint8 feature of shape H, W, 3",
            )
        camera = self._without_absent(features)
        for key, integer in ((camera.depth_key, False), (camera.segmentation_key, True)):
            if key is not None:
                _check_map(feature(features, key, location), key, image, integer, location)
        if camera.intrinsics_key is not None:
            matrix = feature(features, camera.intrinsics_key, location)
            if matrix.kind != "tensor" or matrix.shape not in ((9,), (3, 3)):
                raise SchemaError(
                    f"{location}: {camera.intrinsics_key!r} has shape {matrix.shape}",
                    remedy="intrinsics must be nine numbers",
                )
        if camera.present_key is not None:
            flag = feature(features, camera.present_key, location)
            _check_flag(flag, camera.present_key, location)
        return camera

    def _without_absent(self, features: Mapping[str, FeatureFacts]) -> CameraSchema:
        if not self.depth_optional:
            return self
        camera = self
        if self.depth_key not in features:
            camera = replace(camera, depth_key=None, depth_unit=None)
            camera = replace(camera, depth_invalid=(), depth_max=None)
        if self.segmentation_key not in features:
            camera = replace(camera, segmentation_key=None, segmentation_classes=None)
        if self.intrinsics_key not in features:
            camera = replace(camera, intrinsics_key=None)
        return camera


def _depth_invalid(table: SchemaTable) -> tuple[float, ...]:
    """The field `depth_invalid`. Raises `SchemaError` for what is not a number."""
    values = table.take("depth_invalid", list, [])
    if not all(type(value) in (int, float) for value in values):
        raise SchemaError(
            f"{table.where}: depth_invalid = {values!r} are not stored numbers",
            remedy="write depth_invalid = [65535]: numbers as they are in the file, before the "
            "unit (not finite and 0 or less never is depth)",
        )
    return tuple(values)


def _check_flag(flag: FeatureFacts, key: str, location: str) -> None:
    """Raises `SchemaError` unless `flag` is one boolean per episode or step."""
    if flag.kind not in ("scalar", "tensor") or values_in(flag.shape) != 1 or flag.dtype != "bool":
        raise SchemaError(
            f"{location}: present_key {key!r} is {flag.kind} of {flag.dtype} {flag.shape}",
            remedy="name a boolean of the episode, or leave present_key out: pictures of one flat "
            "colour are found without it",
        )


def _check_map(
    pixels: FeatureFacts, key: str, image: FeatureFacts, integer: bool, location: str
) -> None:
    """Raises `SchemaError` unless `pixels` has one number per pixel and the image's size."""
    kinds = "ui" if integer else "uif"
    flat = pixels.shape[:2] if pixels.shape[2:] == (1,) else pixels.shape
    numeric = pixels.kind in ("image", "tensor") and number_kind(pixels.dtype) in kinds
    if not numeric or len(flat) != 2:
        raise SchemaError(
            f"{location}: {key!r} is {pixels.kind} {pixels.dtype} {pixels.shape}",
            remedy="it must have one number per pixel: shape H, W or H, W, 1",
        )
    sizes = zip(flat, image.shape[:2], strict=True)
    if any(None not in pair and pair[0] != pair[1] for pair in sizes):
        raise SchemaError(
            f"{location}: {key!r} is {flat} px, the image {image.shape[:2]}",
            remedy="depth and segmentation must have the image's size",
        )
