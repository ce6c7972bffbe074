"""Strict reading of TOML tables: every field is typed, every unknown field is an error."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

from depthtok.errors import SchemaError, did_you_mean

_REQUIRED = object()
T = TypeVar("T")
D = TypeVar("D")


@dataclass
class SchemaTable:
    """One table, whose fields are taken one by one. `where` names file and table in errors.

    The methods raise `SchemaError` for a field that is missing, or of another type.
    """

    data: dict[str, Any]
    where: str
    asked: list[str] = field(default_factory=list)

    @overload
    def take(self, name: str, kind: type[T]) -> T: ...
    @overload
    def take(self, name: str, kind: type[T], default: D) -> T | D: ...
    def take(self, name: str, kind: type, default: object = _REQUIRED) -> object:
        """The field's value, of exactly this type (an int is accepted as a float). Raises
        `SchemaError` for another, and where a field without a default is missing."""
        self.asked.append(name)
        if name not in self.data:
            if default is _REQUIRED:
                raise SchemaError(
                    f"{self.where}: {name!r} is missing", remedy=f"add `{name} = ...`"
                )
            return default
        value = self.data[name]
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise SchemaError(
                f"{self.where}: {name} = {value!r} is not {_NAMES[kind]}",
                remedy=f"write it as {_NAMES[kind]}",
            )
        return value

    def choice(self, name: str, choices: tuple[str, ...], default: str | None = None) -> str:
        """A text from a fixed list, or the default; None if the field is required. Raises
        `SchemaError` for another text."""
        value = self.take(name, str) if default is None else self.take(name, str, default)
        if name in self.data and value not in choices:
            raise SchemaError(
                f"{self.where}: {name} = {value!r}", remedy=did_you_mean(value, list(choices))
            )
        return value

    def texts(self, name: str, default: list[str] | None = None) -> tuple[str, ...]:
        """A list of texts, or the default; None if it is required. One text is a list of one.
        Raises `SchemaError` for a list of other things."""
        if isinstance(self.data.get(name), str):
            return (self.take(name, str),)
        values = self.take(name, list) if default is None else self.take(name, list, default)
        if not all(isinstance(value, str) for value in values):
            raise SchemaError(
                f"{self.where}: {name} = {values!r}", remedy="write texts, in quotation marks"
            )
        return tuple(values)

    def tables(self, name: str) -> list[SchemaTable]:
        """The tables of `[[name]]`, possibly none. Raises `SchemaError` for a list of other
        things."""
        rows = self.take(name, list, [])
        if not all(isinstance(row, dict) for row in rows):
            raise SchemaError(
                f"{self.where}: {name!r} is not a list of tables", remedy=f"use [[{name}]]"
            )
        return [SchemaTable(row, f"{self.where} [[{name}]] {i}") for i, row in enumerate(rows, 1)]

    def finish(self) -> None:
        """Raises `SchemaError` for a field that was not taken."""
        for name in self.data:
            if name not in self.asked:
                raise SchemaError(
                    f"{self.where}: unknown field {name!r}", remedy=did_you_mean(name, self.asked)
                )


_NAMES = {
    str: "a text",
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}
