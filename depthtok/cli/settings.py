"""settings: a table of what a command can be told."""

from __future__ import annotations

from depthtok.api.settings import Setting, settings
from depthtok.cli.options import Command
from depthtok.log import result, say


def tell(listed: list[Setting], command: str, *, json: bool) -> None:
    """The flags, then what `--set` takes, with defaults."""
    for heading, rows in (
        ("flags", [row for row in listed if row.flag]),
        ("settings: --set NAME=VALUE", [row for row in listed if not row.flag]),
    ):
        if rows and not json:
            names = [row.flag or row.name for row in rows]
            width = min(max(map(len, names)), 40)
            say(f"{command}: {heading}")
            for name, row in zip(names, rows, strict=True):
                default = f" [default: {row.default}]" if row.default else ""
                say(f"  {name:<{width}}  {row.help or row.type}{default}")
    if json:
        result(listed)


COMMAND = Command(settings, tell)
