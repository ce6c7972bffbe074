"""What a command takes, as its function says: `read` finds it, `bind` makes arguments of values."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    bare,
    leaves,
    split,
)
from depthtok.config import describe, parse_settings
from depthtok.errors import ConfigError, did_you_mean
from depthtok.signals import Stopped


@dataclass(frozen=True)
class Interface:
    """What a command takes."""

    function: Callable[..., Any]
    parameters: tuple[Parameter, ...]
    groups: Mapping[str, type]  # the function's parameters that are dataclasses
    presets: Mapping[str, Preset]
    prefixes: Mapping[str, str]

    @property
    def takes_set(self) -> bool:
        return bool(self.presets) or any(not parameter.shown for parameter in self.parameters)

    def bind(self, values: Mapping[str, Any], where: str) -> dict[str, Any]:
        """The function's arguments from values by the names of the parameters; `set` holds more, as
        texts `NAME=VALUE` or by name. Values that are not given, and None, leave the defaults.

        Raises `ConfigError`, which begins with `where`, for unknown names and impossible values.
        """
        given = {
            name: value for name, value in values.items() if name != "set" and value is not None
        }
        own = {
            parameter.owner: parameter.default
            for parameter in self.parameters
            if not parameter.key and parameter.default is not MISSING
        }
        parts: dict[str, dict[str, Any]] = {name: {} for name in (*self.groups, *self.presets)}
        by_name = {parameter.name: parameter for parameter in self.parameters}
        for name, value in given.items():
            if name not in by_name:
                choices = [each.replace("_", "-") for each in by_name]
                remedy = did_you_mean(name.replace("_", "-"), choices)
                raise ConfigError(f"{where}: there is no {name!r}", remedy=remedy)
            parameter = by_name[name]
            self._put(parameter, parameter.converted(value, where), own, parts)
        for name, value in settings_of(values.get("set")).items():
            self._set(name, value, own, parts)
        try:
            for name, cls in self.groups.items():
                own[name] = made(cls, parts[name])
            for name, preset in self.presets.items():
                chosen = parts[name].pop("", preset.default)
                counts = {key: len(own[of]) for of, key in preset.counts.items() if own.get(of)}
                own[name] = preset.load(chosen, counts | parts[name])
        except ConfigError as error:
            command = self.function.__name__.replace("_", "-")
            remedy = error.remedy or f"see `depthtok settings {command}`"
            raise ConfigError(error.problem, remedy=remedy) from None
        return own

    def _put(self, parameter: Parameter, value: Any, own: dict, parts: dict) -> None:
        if parameter.owner in parts:
            parts[parameter.owner][parameter.key] = value
        else:
            own[parameter.owner] = value

    def _set(self, name: str, value: Any, own: dict, parts: dict) -> None:
        """Sets one setting by its full name; what no class is known to have is the preset's."""
        known = {each.setting: each for each in self.parameters if each.setting}
        if name in known and known[name].owner not in self.presets:
            self._put(known[name], known[name].converted(value, "--set"), own, parts)
        elif self.presets and name.partition(".")[0] not in self.prefixes.values():
            parts[next(iter(self.presets))][name] = value
        else:
            remedy = did_you_mean(name, [*known])
            raise ConfigError(f"--set: there is no setting {name!r}", remedy=remedy)


def settings_of(given: Mapping[str, Any] | Sequence[str] | str | None) -> dict[str, Any]:
    """Settings as `set=` takes them: by name, or as texts `NAME=VALUE`."""
    if isinstance(given, Mapping):
        return dict(given)
    return parse_settings([given] if isinstance(given, str) else given or [])


def made(cls: type, values: Mapping[str, Any]) -> Any:
    """An instance of a settings class. Raises `ConfigError` for a field that is not given."""
    for each in fields(cls):
        if each.name not in values and each.default is each.default_factory is MISSING:
            raise ConfigError(f"`{each.name}` is not given", remedy="it has no default: state it")
    return cls(**values)


@cache
def read(function: Callable[..., Any]) -> Interface:
    """The interface of a function, from its signature and the classes in it."""
    hints = hints_of(function)
    parameters: list[Parameter] = []
    groups, presets, prefixes = {}, {}, {}
    for name, written in inspect.signature(function).parameters.items():
        kind, notes = split(hints[name])
        preset = next((note for note in notes if isinstance(note, Preset)), None)
        if preset is not None:
            presets[name] = preset
            parameters += _of_preset(name, kind, preset)
        elif isinstance(kind, type) and is_dataclass(kind):
            groups[name] = kind
            prefix = next((note for note in notes if isinstance(note, Prefix)), None)
            prefixes[name] = prefix.name if prefix else ""
            parameters += _of_group(name, kind, notes, prefix)
        else:
            parameters.append(_of_own(name, hints[name], written.default))
    names = [parameter.name for parameter in parameters]
    repeated = {name for name in names if names.count(name) > 1}
    assert not repeated, f"two parameters of {function.__name__} are named {repeated}"
    return Interface(function, tuple(parameters), groups, presets, prefixes)


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of the parameters; that of the result may name what only checkers import."""
    written = {key: hint for key, hint in function.__annotations__.items() if key != "return"}
    holder = SimpleNamespace(__annotations__=written)
    return get_type_hints(holder, globalns=_globals(function), include_extras=True)


def _globals(function: Callable[..., Any]) -> dict[str, Any]:
    return inspect.unwrap(function).__globals__


def _of_own(name: str, hint: Any, default: Any) -> Parameter:
    """A parameter of the function that is no dataclass."""
    kind, notes = split(hint)
    default = MISSING if default is inspect.Parameter.empty else default
    note = notes[0] if notes else ""
    if isinstance(note, Positional):
        return Parameter(name, kind, default, note.help, name, "", "", note.metavar, True)
    flag = note if isinstance(note, Flag) else Flag(str(note))
    return Parameter(
        flag.name or name, kind, default, flag.help, name, setting=name if flag.by_set else "",
        metavar=flag.metavar, shown=not flag.by_set, least=flag.least, most=flag.most,
        off=flag.off,
    )  # fmt: skip


def _of_group(
    owner: str, cls: type, notes: Sequence[Any], prefix: Prefix | None
) -> Iterator[Parameter]:
    """The fields of a dataclass, but for tables."""
    names = [each.name for each in fields(cls)]
    only = next((note for note in notes if isinstance(note, Only)), Only(*names))
    by_set = next((note for note in notes if isinstance(note, BySet)), BySet())
    unknown = {*only.names, *by_set.names} - {*names}
    assert not unknown, f"{cls.__name__} has no fields {unknown}"
    flags = {name: flag for flag, name in prefix.flags.items()} if prefix else {}
    start = f"{prefix.name}." if prefix else ""
    for parameter in leaves(cls, ""):
        name = parameter.key
        if name in only.names and "." not in name and describe(bare(parameter.kind)) != "a table":
            yield replace(
                parameter, name=flags.get(name, name), owner=owner, setting=start + name,
                help=only.helps.get(name, parameter.help), shown=name not in by_set.names,
            )  # fmt: skip


def _of_preset(owner: str, cls: type, preset: Preset) -> Iterator[Parameter]:
    """The preset itself, and the settings that have flags."""
    yield Parameter("preset", str, preset.default, preset.help, owner)
    if not (preset.flags or preset.formerly):
        return
    known = {parameter.key: parameter for parameter in leaves(cls, "")}
    for flags, shown in ((preset.flags, True), (preset.formerly, False)):
        for flag, key in flags.items():
            yield replace(known[key], name=flag, owner=owner, shown=shown, default=None)


def signature_of(interface: Interface) -> inspect.Signature:
    """How the function is called in Python."""
    kinds, parameters = inspect.Parameter, []
    for each in sorted(interface.parameters, key=lambda each: not each.positional):
        kind = kinds.POSITIONAL_OR_KEYWORD if each.positional else kinds.KEYWORD_ONLY
        default = kinds.empty if each.default is MISSING else each.default
        parameters.append(kinds(each.name, kind, default=default, annotation=each.kind))
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
        given = signature.bind(*values, **named).arguments
        arguments = interface.bind(given, f"{function.__name__}()")
        try:
            return function(**arguments)
        except Stopped as stop:
            if stop.signum == SIGINT:
                raise KeyboardInterrupt from stop
            raise

    call.__signature__ = signature  # type: ignore[attr-defined]  # stubs lack it
    return call
