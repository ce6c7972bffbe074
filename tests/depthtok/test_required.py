"""What settings check of themselves: the value, the bound and what to type."""

from types import SimpleNamespace

import pytest

from depthtok.errors import ConfigError
from depthtok.required import at_least, fulfilled, one_of


def test_a_number_below_its_bound_is_named_with_the_bound():
    settings = SimpleNamespace(steps=3, batch=0, rate=float("nan"))
    at_least(3, settings, "steps")
    with pytest.raises(ConfigError, match=r"train\.batch = 0, but must be at least 1") as caught:
        at_least(1, settings, "steps batch", "train.")
    assert caught.value.remedy == "give 1 or more"
    with pytest.raises(ConfigError, match="rate = nan"):
        at_least(0, settings, "rate")


def test_an_unknown_choice_is_named_with_a_near_one():
    one_of("mask", "causal", ("qdepth", "causal"))
    with pytest.raises(ConfigError, match="mask = 'casual' is not known") as caught:
        one_of("mask", "casual", ("qdepth", "causal"))
    assert "causal" in caught.value.remedy


def test_what_is_not_fulfilled_is_told_as_given():
    fulfilled(1, "never told")
    with pytest.raises(ConfigError, match="odd") as caught:
        fulfilled(None, "odd", "make it even")
    assert caught.value.remedy == "make it even"
