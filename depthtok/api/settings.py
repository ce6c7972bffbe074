"""settings: everything that a command can be told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from typing import Annotated

from depthtok.api.interface import Interface, read
from depthtok.api.names import COMMANDS
from depthtok.api.parameters import Parameter, Positional, default_text, leaves
from depthtok.config import describe, setting_text
from depthtok.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class Setting:
    """One argument of a command: a flag, or what `--set` takes by its full name."""

    name: str
    flag: str  # "" where it is none
    type: str
    default: str
    help: str


def settings(
    command: Annotated[str, Positional("COMMAND", "a command, such as train-vla")],
) -> list[Setting]:
    """List every setting of a command, with its default.

    First those that are flags, then those that --set takes. An unknown command is refused.

    Example: depthtok settings train-vla
    """
    names = {file.replace("_", "-"): name for name, file in COMMANDS.items()}
    names |= {name.replace("_", "-"): name for name in COMMANDS}
    if command.replace("_", "-") not in names:
        remedy = did_you_mean(command, [*names])
        raise ConfigError(f"there is no command {command!r}", remedy=remedy)
    name = names[command.replace("_", "-")]
    return listed(read(getattr(import_module(f"depthtok.api.{COMMANDS[name]}"), name)))


def listed(interface: Interface) -> list[Setting]:
    """The settings of a function: flags first."""
    flags = [_row(p, p.flag) for p in interface.parameters if p.shown and p.flag]
    by_set = {p.setting: _row(p, "") for p in interface.parameters if not (p.shown or p.successor)}
    for owner, preset in interface.presets.items():
        usual = preset.load(preset.default, {})
        for leaf in leaves(interface.tables[owner], ""):
            by_set[leaf.key] = _row(replace(leaf, default=_value(usual, leaf.key)), "")
    return [*flags, *by_set.values()]


def _value(usual: object, key: str) -> object:
    """The value of a setting by its full name."""
    for name in key.split("."):
        usual = getattr(usual, name)
    return usual


def _row(parameter: Parameter, flag: str) -> Setting:
    """A line of the list; the default of a setting is written as `--set` takes it."""
    default = default_text(parameter.default)
    if default and not flag:
        default = setting_text(parameter.default)
    name = parameter.name if flag or not parameter.setting else parameter.setting
    return Setting(name, flag, describe(parameter.kind), default, parameter.help)
