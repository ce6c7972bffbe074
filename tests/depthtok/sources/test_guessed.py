"""The unit of depth that a draft guessed is named as a guess until somebody has looked at it."""

import json

import pytest

from depthtok.sources.draft import draft
from depthtok.sources.features import Feature
from depthtok.sources.guessed import GUESSED, guessed_units
from depthtok.sources.schema import Schema, parse_schema

SAID = "unit of the depth of image: mm is a guess by its dtype"


@pytest.fixture
def drafted():
    """The draft of a data set with a camera, its depth, and another camera without."""
    paths = {
        "steps/observation/image": ("uint8", (64, 64, 3)),
        "steps/observation/depth": ("uint16", (64, 64, 1)),
        "steps/observation/other_image": ("uint8", (32, 32, 3)),
    }
    features = {p: Feature(p, "image", dtype, shape, "png") for p, (dtype, shape) in paths.items()}
    action = Feature("steps/action", "tensor", "float32", (7,), "none")
    return draft({**features, action.path: action}, "mine")


def test_a_drafts_unit_is_called_a_guess(drafted):
    assert guessed_units(drafted) == ("image",)
    assert SAID in parse_schema(drafted, "draft", "mine").unknown


def test_a_unit_that_was_looked_at_is_none(drafted):
    checked = drafted.replace(f"  # {GUESSED}", "")
    assert checked != drafted
    for text in (checked, drafted.replace(GUESSED, "measured with a ruler")):
        assert guessed_units(text) == ()
        assert not any("guess" in words for words in parse_schema(text, "draft", "mine").unknown)


def test_a_schema_is_the_same_with_and_without_the_comment(drafted):
    """Or a store that was begun by the draft would be another after the check."""
    guess = parse_schema(drafted, "draft", "mine")
    checked = parse_schema(drafted.replace(f"  # {GUESSED}", ""), "draft", "mine")
    assert guess == checked
    assert json.dumps(guess.to_json()) == json.dumps(checked.to_json())
    assert Schema.from_json(guess.to_json()).guessed == ()


@pytest.mark.parametrize(
    "text",
    [
        f"[[camera]]\nname = 'wrist'\ndepth_unit = \"m\"  # {GUESSED}\n[[action]]\nname = 'x'\n",
        f"[[camera]]\ndepth_unit = 'm' # {GUESSED}\nname = \"wrist\"\n",
        f"[[camera]]\nname = 'a'\n[[ camera ]]\n  name='wrist'\n  depth_unit='m'#{GUESSED}\n",
    ],
)
def test_it_is_told_however_the_table_is_written(text):
    assert guessed_units(text) == ("wrist",)


@pytest.mark.parametrize(
    "text",
    [
        f"[[camera]]\nname = 'a'\n# depth_unit = 'm'  # {GUESSED}\n",
        f"[[proprio]]\nname = 'a'\ndepth_unit = 'm'  # {GUESSED}\n",
        f"[[camera]]\nname = 'a'\ndepth_unit = 'm'\n# {GUESSED}\n",
    ],
)
def test_a_comment_of_something_else_is_none(text):
    assert guessed_units(text) == ()
