"""Functions of `depthtok.api` as commands: their parameters as flags, their results in words.

    COMMAND = Command(tokenize, tell)

`tell(result, ...)` prints what the function returned, and returns the exit code if that is not 0.
It gets those of the function's arguments that it names, and `json`: a command whose `tell` names it
has the flag `--json`.
"""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from typer.core import TyperCommand, TyperGroup

from depthtok.api.interface import Interface, read
from depthtok.api.parameters import MISSING, Parameter, bare, default_text
from depthtok.config import setting_text
from depthtok.log import hearing, warn

GROUPS = {
    "Where it runs": (
        *("workers", "loader-threads", "simulators", "threads", "ranks", "ray-address"),
        *("cpus-per-worker", "gpus-per-worker"),
        *("shard", "device", "sharding"),
    ),
    "What it resumes": (
        *("plan", "limit", "resume", "retry-failed", "overwrite", "partial", "source-root"),
        "force",
    ),
    "Output": ("json", "log", "help"),
}
"""Headings of the help, and the flags below them; all others are below "Options"."""

Tell = Callable[..., int | None]


class GroupedCommand(TyperCommand):
    """A command whose help lists its flags in groups."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes arguments and flags."""
        sections: dict[str, list[tuple[str, str]]] = {
            heading: [] for heading in ("Arguments", "Options", *GROUPS)
        }
        heading_of = {flag: heading for heading, flags in GROUPS.items() for flag in flags}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                flags = [name.removeprefix("--") for name in parameter.opts]
                heading = next(
                    (heading_of[flag] for flag in flags if flag in heading_of), "Options"
                )
                if parameter.param_type_name == "argument":
                    heading = "Arguments"
                sections[heading].append(record)
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


def grouped(groups: Mapping[str, tuple[str, ...]]) -> type[TyperGroup]:
    """An application whose help lists its commands below these headings; what is in none of them
    comes last."""

    class GroupedCommands(TyperGroup):
        def format_commands(self, ctx: Any, formatter: Any) -> None:
            """Writes names and first sentences."""
            visible = {
                name: command.get_short_help_str(limit=200)
                for name, command in self.commands.items()
                if not command.hidden
            }
            listed = {name for names in groups.values() for name in names}
            others = tuple(name for name in visible if name not in listed)
            for heading, names in {**groups, "Commands": others}.items():
                rows = [(name, visible[name]) for name in names if name in visible]
                if rows:
                    with formatter.section(heading):
                        formatter.write_dl(rows)

    return GroupedCommands


def new_app(help: str, groups: Mapping[str, tuple[str, ...]] | None = None) -> typer.Typer:
    """A typer application that starts fast and leaves tracebacks and brackets alone. Its help lists
    the commands below the headings of `groups`."""
    return typer.Typer(
        cls=grouped(groups or {"Commands": ()}),
        help=help,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        no_args_is_help=True,
    )


class Command:
    """A function as a command. `hear` prints what the function announces while it works, as `tell`
    prints its result; so does `tell` itself, where it is not given."""

    def __init__(
        self,
        function: Callable[..., Any],
        tell: Tell,
        name: str = "",
        hear: Tell | None = None,
        formerly: str = "",
    ) -> None:
        self.function, self.tell, self.hear = function, tell, hear or tell
        self.name = name or function.__name__.replace("_", "-")
        self.formerly = formerly  # its old name, which is still understood
        self.has_json = "json" in inspect.signature(tell).parameters

    def register(self, app: typer.Typer) -> None:
        """Adds the command."""
        interface = read(self.function)
        flags = [_flag(parameter) for parameter in interface.parameters]
        if interface.takes_set:
            flags.append(_set_flag(self.name))
        if self.has_json:
            flags.append(_option("json", bool, "machine-readable result on stdout"))

        def run(**values: Any) -> None:
            json = bool(values.pop("json", False))
            code = self.carry_out(interface, _given(interface, values), json=json)
            if code:
                raise typer.Exit(code)

        run.__doc__ = inspect.getdoc(self.function)
        run.__signature__ = inspect.Signature(flags)  # type: ignore[attr-defined]  # stubs lack it
        run.__annotations__ = {flag.name: flag.annotation for flag in flags}
        app.command(self.name, cls=GroupedCommand)(run)
        if self.formerly:

            @wraps(run)
            def renamed(**values: Any) -> None:
                warn(f"{self.formerly} is called {self.name} now")
                run(**values)

            app.command(self.formerly, cls=GroupedCommand, hidden=True)(renamed)

    def carry_out(self, interface: Interface, values: Mapping[str, Any], *, json: bool) -> int:
        """Calls the function, prints what it does, and returns the exit code."""
        arguments = interface.bind(values, "command line")
        codes = []
        with hearing(lambda event: codes.append(self.say(self.hear, event, arguments, json=json))):
            done = self.function(**arguments)
        codes.append(self.say(self.tell, done, arguments, json=json))
        return max(codes)

    def say(self, tell: Tell, done: Any, arguments: Mapping[str, Any], *, json: bool) -> int:
        """Has a result printed, and returns the exit code."""
        available = {**arguments, "json": json}
        wanted = list(inspect.signature(tell).parameters)[1:]
        return tell(done, **{name: available[name] for name in wanted if name in available}) or 0


def _given(interface: Interface, values: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that were given; those that are settings by now are told how to write."""
    flags = {name: value for name, value in values.items() if value not in (None, [], ())}
    for parameter in interface.parameters:
        if parameter.successor and parameter.name in flags:
            warn(f"{parameter.flag} is called {parameter.successor} now")
        elif not parameter.shown and parameter.name in flags:
            text = f"{parameter.setting}={setting_text(flags[parameter.name])}"
            warn(f"{parameter.flag} is a setting now: --set {shlex.quote(text)}")
    return flags


def _flag(parameter: Parameter) -> inspect.Parameter:
    """One keyword parameter for typer. None stands for a flag that is not given."""
    default = default_text(parameter.default)
    help = f"{parameter.help} [default: {default}]" if default else parameter.help
    kind = _flag_type(bare(parameter.kind))
    required = parameter.default is MISSING
    if parameter.positional:
        argument: Any = typer.Argument(metavar=parameter.metavar, help=help, show_default=False)
        kind = kind if required else kind | None
        return _keyword(parameter.name, Annotated[kind, argument], required=required)
    return _option(
        parameter.name,
        kind,
        help,
        metavar=parameter.metavar,
        required=required,
        hidden=not parameter.shown,
        off=parameter.off,
    )


def _option(
    name: str,
    kind: Any,
    help: str,
    *,
    metavar: str = "",
    required: bool = False,
    hidden: bool = False,
    off: str = "",
) -> inspect.Parameter:
    flag = name.replace("_", "-")
    spelling = (
        f"--{flag}/--{off or 'no-' + flag}" if kind is bool and name != "json" else f"--{flag}"
    )
    option: Any = typer.Option(
        spelling, help=help, show_default=False, metavar=metavar or None, hidden=hidden
    )
    return _keyword(name, Annotated[kind if required else kind | None, option], required=required)


def _set_flag(command: str) -> inspect.Parameter:
    help = f"one of the settings that `depthtok settings {command}` lists"
    return _option("set", list[str], help, metavar="NAME=VALUE")


def _keyword(name: str, annotation: Any, *, required: bool) -> inspect.Parameter:
    empty = inspect.Parameter.empty
    default, kind = empty if required else None, inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


def _flag_type(kind: Any) -> Any:
    """What typer is to parse: `tuple[X, ...]` is a repeatable flag; literals are checked later."""
    inner = get_args(kind)
    if get_origin(kind) is Literal:
        return str
    if get_origin(kind) is tuple and inner[-1] is Ellipsis:
        return list[inner[0]]  # type: ignore[valid-type]  # for typer, which reads it
    return kind
