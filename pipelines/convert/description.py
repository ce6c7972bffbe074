"""What an EpisodeStore says about itself, whatever it was converted from."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from depthtok.data import Camera
from depthtok.errors import SchemaError
from depthtok.log import typed
from depthtok.sources.schema import Schema, parse_schema
from depthtok.stores.episodes import View
from depthtok.stores.spec import is_store, read_spec

SCHEMA_FILE = "schema.toml"  # in a data set that `depthtok export` wrote
DRAFTED = "draft"  # the name of a schema that nobody has written


def about_store(
    name: str, version: str, schema: Schema, cameras: Sequence[Camera], views: Sequence[View]
) -> dict[str, object]:
    """The `about` of a store of data set `name`."""
    return {
        "dataset": name,
        "version": version,
        "fps": schema.fps,
        "cameras": [asdict(camera) for camera in cameras],
        "views": [view.to_json() for view in views],
        "action_dim": len(schema.action_dims),
        "proprio_dim": len(schema.proprio_dims),
        "action_names": list(schema.action_dims),
        "proprio_names": list(schema.proprio_dims),
        "gripper": list(schema.gripper_dims),
        "gripper_convention": schema.gripper,
        "meaning": schema.meaning.to_json(),
    }


def requested_schema(
    requested: str | None,
    name: str,
    path: object,
    store: Path,
    draft: Callable[[], str],
    features: Container[str] | None = None,
) -> Schema:
    """The requested schema, or the shipped one of data set `name` at `path`; with `features` only
    if it has a camera among them. Without either: that with which `store` was begun, or a draft
    (TOML), named DRAFTED. Raises `SchemaError` where none can be drafted, and for data that bring a
    schema of their own."""
    schema = Schema.load(requested) if requested else Schema.find(name)
    if schema and (requested or features is None or _sees(schema, features)):
        return schema
    table = read_spec(store).what.get("schema") if is_store(store) else None
    if isinstance(table, dict):
        return replace(Schema.from_json(table), name=f"of {store}")
    if brought := own_schema(path):
        raise SchemaError(
            f"no shipped schema fits the data set {name!r}, but it brings one",
            remedy=f"look at it, and give --schema {brought}",
        )
    return parse_schema(draft(), DRAFTED, f"the draft of a schema for {path}")


def _sees(schema: Schema, features: Container[str]) -> bool:
    return any(camera.key in features for camera in schema.cameras)


def own_schema(path: object) -> Path | None:
    """The schema that lies in a data set, as `depthtok export` writes it; None where there is none
    on this machine."""
    file = Path(str(path)) / SCHEMA_FILE
    return file if file.is_file() else None


def overwriting(
    path: object, out: object, split: Sequence[str], schema: str | None, copy: bool
) -> str:
    """The command that makes a store anew, with these settings."""
    flags = [word for name in split for word in ("--split", name)]
    flags += ["--schema", schema] if schema else []
    flags += ["--copy-images"] if copy else []
    return typed("convert", path, "--out", out, *flags, "--overwrite")
