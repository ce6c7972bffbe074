"""What a command takes, as its function says: `read` finds it, `bind` makes arguments of values."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from functools import cache, wraps
from signal import SIGINT
from types import SimpleNamespace
from typing import Any, get_type_hints

from depthtok.api.parameters import (
    BySet,
    Flag,
    Only,
    Parameter,
    Positional,
    Prefix,
    Preset,
    Renamed,
    bare,
    leaves,
    split,
)
from depthtok.config import built, describe, flat, parse_settings
from depthtok.errors import ConfigError, did_you_mean
from depthtok.signals import Stopped


@dataclass(frozen=True)
class Interface:
    """What a command takes."""

    function: Callable[..., Any]
    parameters: tuple[Parameter, ...]
    groups: Mapping[str, type]  # the function's parameters that are dataclasses
    presets: Mapping[str, Preset]
    tables: Mapping[str, type]  # what the presets are of

    @property
    def takes_set(self) -> bool:
        return bool(self.presets) or any(not parameter.shown for parameter in self.parameters)

    def bind(self, values: Mapping[str, Any], where: str) -> dict[str, Any]:
        """The function's arguments from values by the names of the parameters; `set` holds more, as
        texts `NAME=VALUE` or by name. Values that are not given, and None, leave the defaults.

        Raises `ConfigError`, which begins with `where`, for unknown names and impossible values.
        """
        by_name = {parameter.name: parameter for parameter in self.parameters}
        arguments = {
            parameter.owner: parameter.default
            for parameter in self.parameters
            if not parameter.key and parameter.default is not MISSING
        }
        parts: dict[str, dict[str, Any]] = {name: {} for name in (*self.groups, *self.presets)}
        self.require_known(values, where)
        for name, value in values.items():
            if name != "set" and value is not None:
                converted = by_name[name].converted(value, where)
                self._put(by_name[name], converted, arguments, parts)
        for name, value in settings_of(values.get("set")).items():
            self._set(name, value, arguments, parts)
        try:
            for name, cls in self.groups.items():
                arguments[name] = built(cls, parts[name])
            for name, preset in self.presets.items():
                chosen = parts[name].pop("", preset.default)
                counts = {
                    key: len(arguments[of])
                    for of, key in preset.counts.items()
                    if arguments.get(of)
                }
                arguments[name] = preset.load(chosen, counts | parts[name])
        except ConfigError as error:
            raise ConfigError(error.problem, remedy=error.remedy or self._see) from None
        return arguments

    def require_known(
        self, names: Iterable[str], where: str, without: Collection[str] = ()
    ) -> None:
        """Raises `ConfigError`, which begins with `where`, for names that are no parameters, or
        are among those that the caller decides (`without`)."""
        names_known = [parameter.name for parameter in self.parameters]
        choices = {*names_known, *(["set"] * self.takes_set)} - {*without}
        for name in names:
            if name.replace("-", "_") not in choices:
                flags = sorted(choice.replace("_", "-") for choice in choices)
                remedy = did_you_mean(name.replace("_", "-"), flags)
                raise ConfigError(f"{where}: there is no {name!r}", remedy=remedy)

    @property
    def _see(self) -> str:
        return f"see `depthtok settings {self.function.__name__.replace('_', '-')}`"

    def _put(self, parameter: Parameter, value: Any, arguments: dict, parts: dict) -> None:
        if parameter.owner in parts:
            parts[parameter.owner][parameter.key] = value
        else:
            arguments[parameter.owner] = value

    def _set(self, name: str, value: Any, arguments: dict, parts: dict) -> None:
        """Sets one setting by its full name. What lies in a table of a preset is the preset's, who
        checks it."""
        by_setting = {
            parameter.setting: parameter for parameter in self.parameters if parameter.setting
        }
        if name in by_setting and by_setting[name].owner not in self.presets:
            self._put(
                by_setting[name], by_setting[name].converted(value, "--set"), arguments, parts
            )
            return
        for owner, cls in self.tables.items():
            if name.partition(".")[0] in {field.name for field in fields(cls)}:
                parts[owner][name] = value
                return
        full = [leaf.key for cls in self.tables.values() for leaf in leaves(cls, "")]
        same = [setting for setting in full if setting.rpartition(".")[2] == name]
        remedy = (
            f"Did you mean {' or '.join(map(repr, same))}?"
            if same
            else did_you_mean(name, [*by_setting, *full], self._see)
        )
        raise ConfigError(f"--set: there is no setting {name!r}", remedy=remedy)


def settings_of(changes: Mapping[str, Any] | Sequence[str] | str | None) -> dict[str, Any]:
    """Settings by full names from what `set=` takes: by name, also in tables, or as texts
    `NAME=VALUE`."""
    if not isinstance(changes, Mapping):
        changes = parse_settings([changes] if isinstance(changes, str) else changes or [])
    return flat(changes)


@cache
def read(function: Callable[..., Any]) -> Interface:
    """The interface of a function, from its signature and the classes in it."""
    hints = hints_of(function)
    parameters: list[Parameter] = []
    groups, presets, tables = {}, {}, {}
    for name, written in inspect.signature(function).parameters.items():
        kind, notes = split(hints[name])
        preset = next((note for note in notes if isinstance(note, Preset)), None)
        if preset is not None:
            presets[name], tables[name] = preset, kind
            parameters += _of_preset(name, kind, preset)
        elif isinstance(kind, type) and is_dataclass(kind):
            groups[name] = kind
            prefix = next((note for note in notes if isinstance(note, Prefix)), None)
            parameters += _of_group(name, kind, notes, prefix)
        else:
            parameters += _of_own(name, hints[name], written.default)
    names = [parameter.name for parameter in parameters]
    repeated = {name for name in names if names.count(name) > 1}
    assert not repeated, f"two parameters of {function.__name__} are named {repeated}"
    return Interface(function, tuple(parameters), groups, presets, tables)


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of the parameters; that of the result may name what only checkers import."""
    written = {key: hint for key, hint in function.__annotations__.items() if key != "return"}
    holder = SimpleNamespace(__annotations__=written)
    return get_type_hints(holder, globalns=_globals(function), include_extras=True)


def _globals(function: Callable[..., Any]) -> dict[str, Any]:
    return inspect.unwrap(function).__globals__


def _of_own(name: str, hint: Any, default: Any) -> Iterator[Parameter]:
    """A parameter of the function that is no dataclass, also by its old name."""
    kind, notes = split(hint)
    default = MISSING if default is inspect.Parameter.empty else default
    note = notes[0] if notes else ""
    if isinstance(note, Positional):
        yield Parameter(name, kind, default, note.help, name, "", "", note.metavar, True)
        return
    flag = note if isinstance(note, Flag) else Flag(str(note))
    parameter = Parameter(
        flag.name or name,
        kind,
        default,
        flag.help,
        name,
        setting=name if flag.by_set else "",
        metavar=flag.metavar,
        shown=not flag.by_set,
        least=flag.least,
        most=flag.most,
        off=flag.off,
    )
    yield parameter
    if flag.formerly:
        yield _formerly(parameter, flag.formerly)


def _formerly(parameter: Parameter, name: str, setting: str = "") -> Parameter:
    """The old name of a parameter, as one of its own: a hidden flag, and a setting."""
    successor = parameter.flag if parameter.shown else parameter.setting
    return replace(
        parameter, name=name, setting=setting, default=None, shown=False, successor=successor
    )


def _of_group(
    owner: str, cls: type, notes: Sequence[Any], prefix: Prefix | None
) -> Iterator[Parameter]:
    """The fields of a dataclass, but for tables."""
    names = [field.name for field in fields(cls)]
    only = next((note for note in notes if isinstance(note, Only)), Only(*names))
    by_set = next((note for note in notes if isinstance(note, BySet)), BySet())
    unknown = {*only.names, *by_set.names} - {*names}
    assert not unknown, f"{cls.__name__} has no fields {unknown}"
    renamed = next((note for note in notes if isinstance(note, Renamed)), Renamed()).fields
    flags = {name: flag for flag, name in prefix.flags.items()} if prefix else {}
    start = f"{prefix.name}." if prefix and prefix.name else ""
    for parameter in leaves(cls, ""):
        name = parameter.key
        if name in only.names and "." not in name and describe(bare(parameter.kind)) != "a table":
            parameter = replace(
                parameter,
                name=flags.get(name, name),
                owner=owner,
                setting=start + name,
                help=only.helps.get(name, parameter.help),
                shown=name not in by_set.names,
            )
            yield parameter
            yield from (
                _formerly(parameter, old, start + old)
                for old, present in renamed.items()
                if present == name
            )


def _of_preset(owner: str, cls: type, preset: Preset) -> Iterator[Parameter]:
    """The preset itself, and the settings that have flags."""
    yield Parameter("preset", str, preset.default, preset.help, owner)
    if not (preset.flags or preset.formerly):
        return
    by_key = {parameter.key: parameter for parameter in leaves(cls, "")}
    for flags, shown in ((preset.flags, True), (preset.formerly, False)):
        for flag, key in flags.items():
            yield replace(by_key[key], name=flag, owner=owner, shown=shown, default=None)


def signature_of(interface: Interface) -> inspect.Signature:
    """How the function is called in Python."""
    kinds, parameters = inspect.Parameter, []
    for parameter in sorted(interface.parameters, key=lambda parameter: not parameter.positional):
        kind = kinds.POSITIONAL_OR_KEYWORD if parameter.positional else kinds.KEYWORD_ONLY
        default = kinds.empty if parameter.default is MISSING else parameter.default
        parameters.append(kinds(parameter.name, kind, default=default, annotation=parameter.kind))
    if interface.takes_set:
        annotation = Mapping[str, Any] | Sequence[str]
        parameters.append(kinds("set", kinds.KEYWORD_ONLY, default=(), annotation=annotation))
    return inspect.Signature(parameters)


def face(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function for Python: every parameter of its command is an argument, paths may be text."""
    interface = read(function)
    signature = signature_of(interface)

    @wraps(function)
    def call(*values: Any, **named: Any) -> Any:
        written = signature.bind(*values, **named).arguments
        arguments = interface.bind(written, f"{function.__name__}()")
        try:
            return function(**arguments)
        except Stopped as stop:
            if stop.signum == SIGINT:
                raise KeyboardInterrupt from stop
            raise

    call.__signature__ = signature  # type: ignore[attr-defined]  # stubs lack it
    return call
