"""Dataclasses of settings as command-line flags: one typer command from one plain function.

    app = new_app("Turns data sets into depth tokens.")

    @command(app)
    def tokenize(
        depth: Annotated[Path, typer.Argument(help="a DepthStore")],
        settings: TokenizeConfig,
        options: RunOptions,
    ) -> None: ...

Every field of the two classes is a flag (`batch_size` is `--batch-size`; a bool is `--x/--no-x`),
and the function gets two instances.
A command that uses only some of the fields names them, and may replace the help of a flag:
`options: Annotated[RunOptions, Only("device", "limit", limit="stop after so many trials")]`.
"""

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from enum import Enum
from types import GenericAlias, NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer

from depthtok.config import convert, describe, from_flags
from depthtok.errors import ConfigError, did_you_mean


class Only:
    """The fields of a settings class that a command uses, and help texts that differ there."""

    def __init__(self, *names: str, **helps: str) -> None:
        assert set(helps) <= set(names), f"{set(helps) - set(names)} have help and are not used"
        self.names = names
        self.told = helps


@dataclass(frozen=True)
class Settings:
    """A parameter of a command that is a dataclass, and its fields that may be set."""

    cls: type
    heeded: tuple[str, ...]
    told: Mapping[str, str]  # help texts that differ from the fields' own


def new_app(help: str) -> typer.Typer:
    """A typer application that starts fast and leaves tracebacks and brackets alone."""
    return typer.Typer(
        help=help,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        no_args_is_help=True,
    )


def command(app: typer.Typer, name: str | None = None) -> Callable[[Callable], Callable]:
    """Register a function as a command; its dataclass parameters become flags.

    Returns the function itself, which stays an ordinary Python function.
    """

    def register(function: Callable) -> Callable:
        hints = get_type_hints(function, include_extras=True)
        settings = {key: read for key, hint in hints.items() if (read := _settings(hint))}
        _require_distinct(settings)

        def run(**values: Any) -> Any:
            for key, group in settings.items():
                flags = {field: _none_if_empty(values.pop(field)) for field in _flags(group)}
                values[key] = from_flags(group.cls, flags)
            return function(**values)

        parameters = _parameters(function, hints, settings)
        run.__doc__ = inspect.getdoc(function)
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # stubs lack it
        run.__annotations__ = {flag.name: flag.annotation for flag in parameters}
        app.command(name or function.__name__.replace("_", "-"))(run)
        return function

    return register


def _settings(hint: Any) -> Settings | None:
    cls, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    if not (isinstance(cls, type) and is_dataclass(cls)):
        return None
    names = [field.name for field in fields(cls)]
    only = next((note for note in notes if isinstance(note, Only)), Only(*names))
    assert set(only.names) <= set(names), f"{cls.__name__} has other fields than {only.names}"
    return Settings(cls, only.names, only.told)


def _require_distinct(settings: Mapping[str, Settings]) -> None:
    names = [name for group in settings.values() for name in group.heeded]
    repeated = {name for name in names if names.count(name) > 1}
    assert not repeated, f"two classes have a field {repeated}"


def _none_if_empty(value: Any) -> Any:
    return None if value in ([], ()) else value  # a repeatable flag that was not given


def _parameters(
    function: Callable, hints: Mapping[str, Any], settings: Mapping[str, Settings]
) -> list[inspect.Parameter]:
    parameters: list[inspect.Parameter] = []
    for key, parameter in inspect.signature(function).parameters.items():
        if key in settings:
            parameters += _flags(settings[key]).values()
        else:
            kind = inspect.Parameter.KEYWORD_ONLY
            parameters.append(parameter.replace(kind=kind, annotation=hints[key]))
    return parameters


def _flags(settings: Settings) -> dict[str, inspect.Parameter]:
    """One keyword parameter for each field that fits into a flag; tables stay in TOML."""
    hints = get_type_hints(settings.cls, include_extras=True)
    return {
        field.name: _flag(field, hints[field.name], settings.told.get(field.name))
        for field in fields(settings.cls)
        if field.name in settings.heeded and describe(_bare(hints[field.name])) != "a table"
    }


def _flag(field: Field, hint: Any, other_help: str | None) -> inspect.Parameter:
    help = other_help or (get_args(hint)[1] if get_origin(hint) is Annotated else "")
    default = _default_text(field)
    flag = field.name.replace("_", "-")
    kind = _flag_type(_bare(hint))
    spelling = f"--{flag}/--no-{flag}" if kind is bool else f"--{flag}"
    option = typer.Option(spelling, help=f"{help}{default}", show_default=False)
    annotation: Any = Annotated[kind | None, option]
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _bare(hint: Any) -> Any:
    """The type of a field without help text and without `| None`."""
    kind = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if get_origin(kind) in (Union, UnionType):
        kinds = [member for member in get_args(kind) if member is not NoneType]
        return kinds[0] if len(kinds) == 1 else str
    return kind


def _flag_type(kind: Any) -> Any:
    """What typer is to parse: `tuple[X, ...]` is a repeatable flag; literals are checked later."""
    inner = get_args(kind)
    if get_origin(kind) is Literal:
        return str
    if get_origin(kind) is tuple and inner[-1] is Ellipsis:
        return GenericAlias(list, inner[:1])
    return kind


def _default_text(field: Field) -> str:
    value = field.default
    if field.default_factory is not MISSING:
        value = field.default_factory()
    if value is MISSING:
        return " [required]"
    if value is True:
        return " [default: on]"
    if value is None or value is False or value in ("", (), []):
        return ""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, list | tuple):
        value = " ".join(map(str, value))
    return f" [default: {value}]"


def arguments(
    function: Callable,
    table: Mapping[str, Any],
    where: str,
    *,
    hidden: Collection[str] = (),
    known: Collection[str] = (),
) -> dict[str, Any]:
    """A table of a TOML file as arguments of a command's function. Its keys are the names of the
    command's flags without dashes in front, except those of `hidden` parameters. `known` are other
    flags that an error may suggest.

    Raises `ConfigError`, which begins with `where`, for unknown flags and values of another type.
    """
    kinds = get_type_hints(function)
    names = {
        _flag_name(hint) or name.replace("_", "-"): name
        for name, hint in get_type_hints(function, include_extras=True).items()
        if name not in hidden and name != "return"
    }
    values = {}
    for key, value in table.items():
        flag = key.replace("_", "-")
        if flag not in names:
            problem = f"{where} there is no {key!r}"
            choices = [*names, *(name.replace("_", "-") for name in known)]
            raise ConfigError(problem, remedy=did_you_mean(flag, choices))
        name = names[flag]
        values[name] = convert(value, kinds[name], f"{where} `{key}`")
    return values


def _flag_name(hint: Any) -> str:
    """The flag of a parameter, without dashes in front; "" for what is none."""
    for note in get_args(hint)[1:] if get_origin(hint) is Annotated else ():
        for text in (getattr(note, "default", None), *(getattr(note, "param_decls", None) or ())):
            if isinstance(text, str) and text.startswith("--"):
                return text.split("/")[0].removeprefix("--")
    return ""
