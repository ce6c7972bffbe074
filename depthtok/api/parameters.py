"""The parameters of commands, read from the signatures of plain functions.

    def tokenize(
        depth: Annotated[Path, Positional("DEPTH", "a DepthStore")],
        out: Annotated[Path, "directory of the store, new or to resume"],
        settings: Annotated[TokenizeConfig, BySet("sticky")],
        options: Annotated[RunOptions, Only("device", "limit", limit="stop after so many clips")],
        sample: Annotated[int, Flag("re-encode this many clips", least=0)] = 0,
    ) -> Outcome: ...

A text is the help of a flag. Every field of a dataclass is a parameter of its own. The notes:
`Only` names the fields that a command uses (all, without it), `BySet` those that are no flags but
settings (`--set sticky=0.3`), `Prefix("run")` gives settings full names (`run.log_every`),
`Renamed` names those that were called otherwise, and `Preset` is for
settings in tables, of which a preset, flags and `--set` each decide some.

The command line (`depthtok/cli/options.py`), the functions of the package (`depthtok.tokenize`) and
the tables of TOML files all take what `depthtok.api.interface.read` finds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from depthtok.config import convert
from depthtok.errors import ConfigError


@dataclass(frozen=True)
class Flag:
    """A parameter that is a flag: its help, the word for its value, its bounds, another name."""

    help: str
    metavar: str = ""
    least: float | None = None
    most: float | None = None
    name: str = ""  # of the flag, where the parameter's own name cannot be it
    by_set: bool = False  # no flag but a setting
    off: str = ""  # the flag for False, where it is not --no-NAME
    formerly: str = ""  # its old name, which is still understood


@dataclass(frozen=True)
class Positional:
    """A parameter that is given by its place."""

    metavar: str
    help: str


class Only:
    """The fields of a settings class that a command uses, and help texts that differ there."""

    def __init__(self, *names: str, **helps: str) -> None:
        assert set(helps) <= set(names), f"{set(helps) - set(names)} have help and are not used"
        self.names = names
        self.helps = helps


class BySet:
    """The fields of a settings class that are no flags: they are given with `--set`."""

    def __init__(self, *names: str) -> None:
        self.names = names


class Renamed:
    """Fields of a settings class whose old name, of flag and setting, is still understood:
    `Renamed(weight="sampling_weight")`."""

    def __init__(self, **fields: str) -> None:
        self.fields = fields


@dataclass(frozen=True)
class Prefix:
    """What the full names of the settings of a class begin with; and fields whose flag has another
    name: `Prefix("run", log="trackers")`."""

    name: str
    flags: Mapping[str, str]

    def __init__(self, name: str, **flags: str) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "flags", flags)


@dataclass(frozen=True)
class Preset:
    """Settings in tables, made by `load(preset, changes)`; `changes` are values by full names such
    as `train.lr`. `flags` are those that have flags: name of the flag -> full name. `formerly` had
    one: the flag is still understood, and the settings' names are told."""

    load: Callable[[str, Mapping[str, Any]], Any]
    default: str
    flags: Mapping[str, str] = field(default_factory=dict)
    formerly: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, str] = field(default_factory=dict)
    help: str = "named settings, or a TOML file"


@dataclass(frozen=True)
class Parameter:
    """One argument of a command. `owner` is the parameter of the function that it belongs to, and
    `key` the field or the full setting in it; "" where it is the whole of it."""

    name: str  # in Python; the flag has dashes for underscores
    kind: Any  # its type
    default: Any  # MISSING where it must be given
    help: str
    owner: str
    key: str = ""
    setting: str = ""  # its full name for `--set`; "" where it is none
    metavar: str = ""
    positional: bool = False
    shown: bool = True  # as a flag
    least: float | None = None
    most: float | None = None
    off: str = ""
    successor: str = ""  # of an old name: the flag or setting that it is called now

    @property
    def flag(self) -> str:
        return "" if self.positional else f"--{self.name.replace('_', '-')}"

    def converted(self, value: Any, where: str) -> Any:
        """`value` as its type. Raises `ConfigError` for another one, or one out of bounds."""
        name = self.name.replace("_", "-") if where.startswith("[") else self.name
        value = convert(_lenient(value, bare(self.kind)), self.kind, f"{where}: `{name}`")
        low, high = self.least, self.most
        if value is None or ((low is None or value >= low) and (high is None or value <= high)):
            return value
        remedy = f"give {low:g} or more" if high is None else f"give {low or 0:g} to {high:g}"
        raise ConfigError(f"{where}: `{name}` cannot be {value!r}", remedy=remedy)


def _lenient(value: Any, kind: Any) -> Any:
    """One value for a list of one, and a path for a text: as people write it in Python."""
    alone = isinstance(value, str | os.PathLike | int | float)
    if get_origin(kind) in (list, tuple) and alone:
        return [_lenient(value, get_args(kind)[0])]
    if kind is str and isinstance(value, os.PathLike):
        return os.fspath(value)
    return value


def split(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type and its notes."""
    if get_origin(hint) is Annotated:
        kind, *notes = get_args(hint)
        return kind, tuple(notes)
    return hint, ()


def leaves(cls: type, start: str) -> Iterator[Parameter]:
    """Every field of a settings class by its full name, and those of the tables in it."""
    hints = get_type_hints(cls, include_extras=True)
    for setting in fields(cls):
        kind, notes = split(hints[setting.name])
        key = start + setting.name
        if isinstance(kind, type) and is_dataclass(kind):
            yield from leaves(kind, f"{key}.")
            continue
        yield Parameter(key, kind, default_of(setting), notes[0] if notes else "", "", key, key)


def default_of(setting: Field) -> Any:
    """The default of a field; MISSING where it has none."""
    factory = setting.default_factory
    return setting.default if factory is MISSING else factory()


def bare(kind: Any) -> Any:
    """A type without `| None`; text where several types are left."""
    if get_origin(kind) in (Union, UnionType):
        kinds = [member for member in get_args(kind) if member is not NoneType]
        return kinds[0] if len(kinds) == 1 else str
    return kind


def default_text(value: Any) -> str:
    """A default in words; "" for one that says nothing."""
    if value is True:
        return "on"
    if value is MISSING or value is None or value is False or value in ("", (), []):
        return ""
    if isinstance(value, Enum):
        value = value.value
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
