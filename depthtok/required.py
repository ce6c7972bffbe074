"""What settings check of themselves in `__post_init__`, in words that name the setting. Standard
library only."""

from __future__ import annotations

from collections.abc import Sequence

from depthtok.errors import ConfigError, did_you_mean


def fulfilled(condition: object, problem: str, remedy: str = "") -> None:
    """Raises `ConfigError` unless the condition is true."""
    if not condition:
        raise ConfigError(problem, remedy=remedy)


def require(good: object, field: str, value: object, remedy: str) -> None:
    """Raises `ConfigError`, naming field and value, unless the value is good."""
    fulfilled(good, f"`{field}` cannot be {value!r}", remedy)


def at_least(least: int, settings: object, names: str, prefix: str = "") -> None:
    """Raises `ConfigError` for one of the settings (`names`, with spaces between) that is less, or
    not a number."""
    for name in names.split():
        value = getattr(settings, name)
        problem = f"{prefix}{name} = {value}, but must be at least {least}"
        fulfilled(value >= least, problem, f"give {least} or more")


def one_of(name: str, value: str, choices: Sequence[str]) -> None:
    """Raises `ConfigError` for a value that is not among the choices."""
    if value not in choices:  # to look for the nearest takes time
        fulfilled(False, f"{name} = {value!r} is not known", did_you_mean(value, list(choices)))
