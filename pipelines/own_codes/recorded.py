"""What an export records of the codes in it: which codebook they are of, where they lie, and the
digests of the files that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from depthtok.disk.digests import file_sha256
from depthtok.errors import SourceError, StaleStore
from depthtok.json_values import JsonObject, value_of, values_of
from depthtok.sources.features import read_json
from depthtok.stores.spec import as_size
from pipelines.export.record import LEROBOT, RLDS

WITHOUT = (
    "give a DepthStore (`depthtok annotate` makes one), or the episodes of an export that was "
    "made with --codes"
)


@dataclass(frozen=True)
class RecordedCodes:
    """The codes in the export at `root`. `features` are their keys, `ranges` those of the ranges,
    by camera; `about` is what a CodeStore says of itself beside that, `made_with` the settings."""

    root: Path
    is_rlds: bool
    export: str  # fingerprint
    codebook: str  # fingerprint
    codes: int  # of the codebook
    grid: tuple[int, int]
    features: JsonObject
    ranges: JsonObject
    about: JsonObject
    made_with: JsonObject
    estimator: JsonObject | None
    files: JsonObject

    @property
    def cameras(self) -> tuple[str, ...]:
        """The cameras that have codes."""
        return tuple(self.features)

    def require_as_exported(self, names: Sequence[str], paths: Sequence[Path]) -> None:
        """Raises `StaleStore` unless the files of these names, at `paths`, have the bytes that were
        exported: codes and ranges are then those that belong together."""
        for name, path in zip(names, paths, strict=True):
            recorded = self.files.get(name)
            digest = recorded[1] if isinstance(recorded, list) else None
            if digest != file_sha256(path):
                raise StaleStore(
                    f"{self.root / name} is not as it was exported: that its codes are those of "
                    "their codebook and ranges is not known any more",
                    remedy="export again, with --codes, into another --out, and convert that",
                )


def read_recorded(root: Path) -> RecordedCodes:
    """What the export at `root` records. Raises `SourceError` where there is none, or no codes."""
    records = {root / LEROBOT: False, root / RLDS: True}
    file = next((file for file in records if file.is_file()), None)
    if file is None:
        raise SourceError(
            f"{root} brings no codes with their codebook: it is no export of depthtok's",
            remedy=WITHOUT,
        )
    record = read_json(file)
    if "codes" not in record:
        raise SourceError(f"{root} was exported without codes", remedy=WITHOUT)
    try:
        return _parsed(root, record, is_rlds=records[file])
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(
            f"{file} does not say all of its codes ({error!r}): an earlier depthtok wrote it, or "
            "it was changed",
            remedy="export again, with --codes, into another --out, and convert that",
        ) from error


def _parsed(root: Path, record: dict, *, is_rlds: bool) -> RecordedCodes:
    codes, features = value_of(record, "codes", dict), value_of(record, "features", dict)
    cameras = values_of(codes, "cameras", str)
    about = value_of(codes, "about", dict)
    estimator = codes["estimator"]
    if not (estimator is None or isinstance(estimator, dict)):
        raise TypeError(f"estimator = {estimator!r}")
    return RecordedCodes(
        root,
        is_rlds,
        value_of(record, "fingerprint", str),
        value_of(codes, "codebook", str),
        value_of(about, "codes", int),
        as_size(codes["grid"]),
        {camera: value_of(features[camera], "codes", str) for camera in cameras},
        {camera: value_of(features[camera], "range", str) for camera in cameras},
        {**about, "transform": value_of(codes, "transform", dict)},
        value_of(codes, "made_with", dict),
        estimator,
        value_of(record, "files", dict),
    )
