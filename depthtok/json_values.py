"""JSON objects as they are read: nothing is known of a value before it is taken out by its type.

What is of another type raises `TypeError`, what is not there `KeyError`; where we wrote the object,
`as_written` turns both into a `CorruptPart`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from depthtok.errors import as_type

T = TypeVar("T")

JsonObject = Mapping[str, object]
"""Plain JSON values by name: text, numbers, booleans, None, lists and objects of them."""


def as_list(value: object) -> list[object]:
    """A list; in settings that were not yet written it may be a tuple."""
    return list(value) if isinstance(value, tuple) else as_type(list, value)


def value_of(values: JsonObject, name: str, kind: type[T]) -> T:
    """The value of that name: text (`str`), a whole number (`int`), an object (`dict`), ..."""
    return as_type(kind, values[name])


def values_of(values: JsonObject, name: str, kind: type[T]) -> tuple[T, ...]:
    """The list of that name, all of one type."""
    return tuple(as_type(kind, value) for value in as_list(values[name]))


def number_of(values: JsonObject, name: str) -> float | None:
    """The number of that name, whole or not, or None."""
    value = values[name]
    return value if value is None or type(value) is int else as_type(float, value)
