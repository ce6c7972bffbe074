"""Settings: plain frozen dataclasses that are at once TOML keys, flags and Python arguments.

A field is written `name: Annotated[int, "help text"] = default`. Each stage has two such classes:
*what* is made (fingerprinted) and, shared by all, *how* it is made: `RunOptions`, which never
changes a byte of the result. `depthtok/cli/options.py` turns the classes into command-line flags.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from depthtok.errors import ConfigError, did_you_mean
from depthtok.required import require

C = TypeVar("C")
T = TypeVar("T")


def require_device(name: str) -> None:
    """Raises `ConfigError` for what is no name of a device."""
    match = re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name)
    require(match, "device", name, "give auto, cpu, cuda, cuda:N or mps")


@dataclass(frozen=True)
class RunOptions:
    """How a stage runs. Never part of a fingerprint: no field changes the bytes that are made."""

    workers: Annotated[int, "Ray worker processes; 0: this process, without Ray"] = 0
    ray_address: Annotated[str | None, "join this Ray cluster instead of starting one"] = None
    gpus_per_worker: Annotated[float | None, "GPUs per worker; fractions share one"] = None
    cpus_per_worker: Annotated[float, "CPU cores per worker"] = 1.0
    shard: Annotated[str | None, "job i of n independent jobs: 1/4, 2/4, 3/4, 4/4"] = None
    source_root: Annotated[Path | None, "where the source data set lies now, if it moved"] = None
    device: Annotated[str, "auto, cpu, cuda, cuda:N or mps"] = "auto"
    limit: Annotated[int | None, "stop after the parts with this many episodes"] = None
    plan: Annotated[bool, "print what would be done, its time and size, and stop"] = False
    resume: Annotated[bool, "keep finished parts"] = True
    retry_failed: Annotated[bool, "rebuild parts with failed episodes"] = False
    overwrite: Annotated[
        bool, "replace a store made with other settings, once the new one is whole"
    ] = False
    partial: Annotated[bool, "use a source that lacks parts"] = False

    def __post_init__(self) -> None:
        require(self.workers >= 0, "workers", self.workers, "give 0 or more")
        remedy = "give `workers` 1 or more with it: 0 workers means in this process, without Ray"
        joins = self.ray_address is None or self.workers > 0
        require(joins, "ray_address", self.ray_address, remedy)
        gpus = self.gpus_per_worker
        require(gpus is None or gpus >= 0, "gpus_per_worker", gpus, "give 0 or more")
        require(self.cpus_per_worker > 0, "cpus_per_worker", self.cpus_per_worker, "give above 0")
        require(self.limit is None or self.limit > 0, "limit", self.limit, "give 1 or more")
        require_device(self.device)
        if self.shard is not None:
            numbers = re.fullmatch(r"(\d{1,9})/(\d{1,9})", self.shard)
            good = numbers and 1 <= int(numbers[1]) <= int(numbers[2])
            require(good, "shard", self.shard, "give i/n with i from 1 to n, such as 1/4")

    def mine(self, items: Sequence[T]) -> list[T]:
        """Those of the ordered `items` that this job does: all, or every n-th with `shard` i/n."""
        if self.shard is None:
            return list(items)
        job, jobs = (int(number) for number in self.shard.split("/"))
        return list(items[job - 1 :: jobs])


def from_mapping(cls: type[C], mapping: Mapping[str, Any], where: str) -> C:
    """An instance from TOML or JSON values; `where` names their place in errors.

    Raises `ConfigError` for an unknown key, a value of another type, or one the class rejects.
    """
    values = checked(cls, mapping, where)
    try:
        return built(cls, values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.problem}", remedy=error.remedy) from None


def checked(cls: type, mapping: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Arguments for `cls`, in its fields' types. Raises `ConfigError` for names it has not."""
    types = field_types(cls)
    for key in mapping:
        if key not in types:
            raise ConfigError(
                f"{where}: there is no setting {key!r}", remedy=did_you_mean(str(key), [*types])
            )
    return {key: convert(value, types[key], f"{where}: `{key}`") for key, value in mapping.items()}


def field_types(cls: type) -> dict[str, Any]:
    """The types of a dataclass's fields by name, without their help texts."""
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in fields(cls)}


def built(cls: type, values: Mapping[str, Any]) -> Any:
    """An instance of a settings class. Raises `ConfigError` for a field that is not given."""
    for field in fields(cls):
        if field.name not in values and field.default is field.default_factory is MISSING:
            raise ConfigError(f"`{field.name}` is not given", remedy="it has no default: state it")
    return cls(**values)


def convert(value: Any, kind: Any, where: str) -> Any:
    """`value` as the type `kind`. Raises `ConfigError`, which begins with `where`."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, UnionType):
        return _convert_union(value, inner, where)
    if origin in (tuple, list) and isinstance(value, list | tuple):
        return _convert_items(value, origin, inner, where)
    if origin is Literal and value in inner:
        return value
    if origin is dict and isinstance(value, Mapping):
        return {str(key): convert(v, inner[1], f"{where}.{key}") for key, v in value.items()}
    if isinstance(kind, type):
        if is_dataclass(kind) and isinstance(value, Mapping):
            return from_mapping(kind, value, where)
        if issubclass(kind, Enum) and not isinstance(value, kind):
            return _convert_choice(value, kind, where)
        if kind is Path and isinstance(value, str | Path) and value and "\0" not in str(value):
            return _path(str(value))
        if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
            if abs(value) <= sys.float_info.max:  # no infinity, and no whole number beyond
                return float(value)
        elif kind is int:
            if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
                return value
        elif isinstance(value, kind):
            return value
    raise ConfigError(f"{where} cannot be {value!r}", remedy=f"give {describe(kind)}")


def _path(text: str) -> Path:
    """A path of this machine, or the location that a URL names."""
    if ":/" not in text:
        return Path(text)
    from depthtok.remote.location import located

    return located(text)


def _convert_union(value: Any, kinds: tuple, where: str) -> Any:
    if value is None and NoneType in kinds:
        return None
    real = [kind for kind in kinds if kind is not NoneType]
    for kind in real[:-1]:
        try:
            return convert(value, kind, where)
        except ConfigError:
            continue
    return convert(value, real[-1], where)


def _convert_items(value: Sequence, origin: type, inner: tuple, where: str) -> Any:
    if origin is tuple and inner[-1] is not Ellipsis:
        if len(value) != len(inner):
            raise ConfigError(f"{where} has {len(value)} entries", remedy=f"give {len(inner)}")
        return tuple(convert(v, k, where) for v, k in zip(value, inner, strict=True))
    return origin(convert(v, inner[0], where) for v in value)


def _convert_choice(value: Any, kind: type[Enum], where: str) -> Enum:
    choices = [str(member.value) for member in kind]
    if value not in choices:
        remedy = did_you_mean(str(value), choices)
        raise ConfigError(f"{where} cannot be {value!r}", remedy=remedy)
    return next(member for member in kind if str(member.value) == value)


def describe(kind: Any) -> str:
    """A type in words: `a whole number`, `a list of text`."""
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    origin, inner = get_origin(kind), [k for k in get_args(kind) if k is not Ellipsis]
    if origin in (Union, UnionType):
        return " or ".join(describe(k) for k in inner if k is not NoneType)
    if origin is Literal:
        return " or ".join(repr(choice) for choice in inner)
    if origin in (tuple, list):
        return f"a list of {describe(inner[0])}"
    if origin is dict or is_dataclass(kind):
        return "a table"
    return words.get(kind, "a path" if kind is Path else str(kind))


def to_json(value: Any) -> Any:
    """Settings as plain JSON values, the same for equal settings (1 and 1.0 of a float field)."""
    if is_dataclass(value) and not isinstance(value, type):
        types, name = field_types(type(value)), type(value).__name__
        values = {key: getattr(value, key) for key in types}
        return {k: to_json(convert(v, types[k], f"{name}: `{k}`")) for k, v in values.items()}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return value


def canonical_json(data: Any) -> str:
    """One text for equal plain values: sorted keys, no spaces. Raises `ValueError` for NaN."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 in hex of canonical JSON. Raises `ConfigError` for NaN, infinity, endless nesting."""
    try:
        text = canonical_json(to_json(value))
    except ValueError as error:
        raise ConfigError(f"no fingerprint: {error}", remedy="give finite numbers") from None
    except RecursionError:
        raise ConfigError(
            "no fingerprint: tables in tables in tables", remedy="give settings without such depth"
        ) from None
    import hashlib  # loads OpenSSL, which --help has no use for

    return hashlib.sha256(text.encode()).hexdigest()


def load_toml(path: Path) -> dict[str, Any]:
    """A TOML file as a dictionary. Raises `ConfigError` naming file and line."""
    import tomllib

    from depthtok.disk.regular import require_file, require_given

    require_file(path)
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        require_given(Path(path), error)
        raise ConfigError(f"{path}: {error.strerror}", remedy="give a TOML file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text", remedy="give a TOML file") from None
    except (ValueError, RecursionError) as error:  # also numbers too long, tables too deep
        raise ConfigError(f"{path}: {error}", remedy="mend the TOML at that line") from None


def parse_settings(texts: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE texts: values are TOML or plain words. Raises `ConfigError` where one has none."""
    import tomllib

    settings = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text} has no value", remedy="write --set train.lr=1e-4")
        try:
            settings[name] = tomllib.loads(f"x = {value}")["x"]
        except tomllib.TOMLDecodeError:
            settings[name] = value
        except (ValueError, RecursionError) as error:  # a number too long, lists too deep
            raise ConfigError(
                f"--set {name} has an impossible value: {error}", remedy="write --set train.lr=1e-4"
            ) from None
    return settings


def setting_text(value: object) -> str:
    """A value as `--set NAME=` takes it: text as it is where that is read as text, else TOML."""
    value = to_json(value)
    if isinstance(value, str) and parse_settings([f"x={value}"]) == {"x": value}:
        return value
    return json.dumps(value, ensure_ascii=False)


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Nested settings as one dictionary by full names such as `train.lr`."""
    settings: dict[str, object] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            settings |= flat(value, f"{prefix}{name}.")
        else:
            settings[prefix + name] = value
    return settings


def nested(dotted: Mapping[str, Any]) -> dict:
    """`{"a.lr": 1}` becomes `{"a": {"lr": 1}}`. Raises `ConfigError` where a parent is a value."""
    tree: dict = {}
    for name, value in dotted.items():
        *parents, leaf = name.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ConfigError(f"{name}: {parent} is no table of settings")
        node[leaf] = value
    return tree


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict:
    """Both tables merged recursively; where both define a value, `above` wins."""
    union = dict(below)
    for name, value in above.items():
        tables = isinstance(value, Mapping) and isinstance(union.get(name), Mapping)
        union[name] = merged(union[name], value) if tables else value
    return union
