"""Values are taken out of JSON objects by their type, and nothing else passes for it."""

import pytest

from depthtok.json_values import as_list, number_of, value_of, values_of

OBJECT = {"name": "toy", "count": 3, "flag": True, "rate": 20.0, "size": [4, 6], "none": None}


def test_values_of_their_type():
    assert value_of(OBJECT, "name", str) == "toy"
    assert value_of(OBJECT, "count", int) == 3
    assert values_of(OBJECT, "size", int) == (4, 6)
    assert values_of({"size": (4, 6)}, "size", int) == (4, 6)
    assert as_list([1, "a"]) == [1, "a"]


def test_numbers_keep_their_type():
    assert [number_of(OBJECT, name) for name in ("count", "rate", "none")] == [3, 20.0, None]
    assert type(number_of(OBJECT, "count")) is int


@pytest.mark.parametrize(
    ("name", "kind"), [("name", int), ("count", str), ("flag", int), ("none", str), ("size", dict)]
)
def test_other_types_are_refused(name, kind):
    with pytest.raises(TypeError):
        value_of(OBJECT, name, kind)


def test_lists_and_numbers_are_refused_too():
    with pytest.raises(TypeError):
        values_of(OBJECT, "size", str)
    with pytest.raises(TypeError):
        values_of(OBJECT, "name", str)  # a text is no list of texts
    with pytest.raises(TypeError):
        number_of(OBJECT, "flag")
    with pytest.raises(KeyError):
        value_of(OBJECT, "elsewhere", str)
