"""JSON objects as they are read: nothing is known of a value before one of these takes it out.

All raise `KeyError` for a name that is not there and `TypeError` for a value of another type, which
`as_written` turns into a `CorruptPart`. `as_...` take a value, `..._of` the value of a name.
"""

from __future__ import annotations

from collections.abc import Mapping

from depthtok.errors import as_type

JsonObject = Mapping[str, object]
"""Plain JSON values by name: text, numbers, booleans, None, lists and objects of them."""


def as_object(value: object) -> JsonObject:
    """An object."""
    return as_type(dict, value)


def as_list(value: object) -> list[object]:
    """A list, or a tuple in settings that were not yet written."""
    return list(value) if isinstance(value, tuple) else as_type(list, value)


def object_of(values: JsonObject, name: str) -> JsonObject:
    """The object of that name."""
    return as_object(values[name])


def objects_of(values: JsonObject, name: str) -> list[JsonObject]:
    """The list of objects of that name."""
    return [as_object(value) for value in as_list(values[name])]


def text_of(values: JsonObject, name: str) -> str:
    """The text of that name."""
    return as_type(str, values[name])


def texts_of(values: JsonObject, name: str) -> tuple[str, ...]:
    """The list of texts of that name."""
    return tuple(as_type(str, value) for value in as_list(values[name]))


def integer_of(values: JsonObject, name: str) -> int:
    """The whole number of that name."""
    return as_type(int, values[name])


def integers_of(values: JsonObject, name: str) -> tuple[int, ...]:
    """The list of whole numbers of that name."""
    return tuple(as_type(int, value) for value in as_list(values[name]))


def number_of(values: JsonObject, name: str) -> float:
    """The number of that name, whole or not."""
    value = values[name]
    return value if type(value) is int else as_type(float, value)


def optional_number_of(values: JsonObject, name: str) -> float | None:
    """The number of that name, or None."""
    return None if values[name] is None else number_of(values, name)
