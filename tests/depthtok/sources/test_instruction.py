"""Instructions as texts, lists of texts, and character codes."""

import numpy as np
import pytest

from depthtok.errors import CorruptRecord, SchemaError
from depthtok.sources.features import Feature, read_features, to_json
from depthtok.sources.instruction import Instruction, decoded
from depthtok.sources.rlds import RldsDirectory
from depthtok.sources.table import SchemaTable
from depthtok.sources.write import RldsWriter

WORDS = "grüße den Würfel"


def codes(text, size=24, dtype=np.int32):
    row = np.zeros(size, dtype)
    row[: len(text)] = list(text)
    return row


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (codes(WORDS.encode()), WORDS),
        (codes(WORDS.encode(), dtype=np.uint8), WORDS),
        (codes([ord(c) for c in "日本のカップ"]), "日本のカップ"),
        (codes([ord(c) for c in "naïve"]), "naïve"),  # Latin-1: no valid UTF-8
        (codes(b""), ""),
        (codes(b"ab\0cd"), "ab"),  # what comes after the first zero is padding
        (codes(b"x" * 24), "x" * 24),  # no padding at all
    ],
)
def test_codes_become_text(row, text):
    assert decoded(row, "here") == text


@pytest.mark.parametrize("wrong", [-1, 0x110000, 0xD800])
def test_numbers_that_are_no_characters_are_refused(wrong):
    with pytest.raises(CorruptRecord, match=f"here: {wrong} is not a character"):
        decoded(np.array([104, wrong, 0]), "here")


def parse(value):
    return Instruction.parse(SchemaTable({"instruction": value}, "mine.toml"))


def test_one_grammar_and_the_old_forms_keep_their_json():
    assert parse("a").to_json() == ["a"]
    assert parse(["a", "b"]).to_json() == ["a", "b"]
    assert parse([]).to_json() == []
    assert parse({"from": "a"}) == parse("a")
    table = {"from": ["a"], "ops": ["characters"], "pick": "draw"}
    assert parse(table).to_json() == table
    assert parse(parse(table).to_json()) == parse(table)
    with pytest.raises(SchemaError, match=r"\[instruction\].*'charcters'") as caught:
        parse({"from": "a", "ops": ["charcters"]})
    assert "characters" in caught.value.remedy
    with pytest.raises(SchemaError, match="unknown field 'form'"):
        parse({"from": "a", "form": "b"})


FEATURES = {
    feature.path: feature
    for feature in (
        Feature("steps/is_first", "scalar", "bool", (), "none"),
        Feature("steps/text", "text", "str"),
        Feature("steps/several", "text", "str", (None,)),
        Feature("steps/pair", "text", "str", (2,)),
        Feature("notes", "text", "str", (None,), "", per_step=False),
        Feature("steps/codes", "tensor", "int32", (24,), "none"),
        Feature("steps/more", "tensor", "uint8", (2, 24), "none"),
        Feature("about", "tensor", "int64", (24,), "none", per_step=False),
        Feature("steps/state", "tensor", "float32", (3,), "none"),
    )
}
EPISODE = {
    "steps/is_first": [True, False, False],
    "steps/text": ["", "t1", "t2"],
    "steps/several": [["a", "b"], [], [" ", "c", "c"]],
    "steps/pair": [["p", "q"]] * 3,
    "notes": ["n", "m"],
    "steps/codes": [codes(b"push")] * 2 + [codes(b"pull")],
    "steps/more": [[codes(b"", dtype=np.uint8), codes(b"lift", dtype=np.uint8)]] * 3,
    "about": codes(b"for all"),
    "steps/state": np.zeros((3, 3), np.float32),
}


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    path = tmp_path_factory.mktemp("words") / "1.0.0"
    writer = RldsWriter(path, "words", "1.0.0", FEATURES)
    writer.write("train", iter([EPISODE]), 1)
    rlds = RldsDirectory.open(writer.finish())
    return next(rlds.records(rlds.splits["train"].shards[0]))


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ("steps/several", [("a",), ("",), ("c",)]),
        (["steps/several", "steps/text"], [("a",), ("t1",), ("c",)]),
        ({"from": "steps/several", "pick": "draw"}, [("a", "b"), ("",), ("c",)]),
        (
            {"from": ["steps/pair", "steps/text"], "pick": "draw"},
            [("p", "q"), ("p", "q", "t1"), ("p", "q", "t2")],
        ),
        ("notes", [("n",)]),
        ({"from": "notes", "pick": "draw"}, [("n", "m")]),
        (
            {"from": ["notes", "steps/text"], "pick": "draw"},
            [("n", "m"), ("n", "m", "t1"), ("n", "m", "t2")],
        ),
        ({"from": "steps/codes", "ops": ["characters"]}, [("push",), ("push",), ("pull",)]),
        ({"from": "steps/more", "ops": ["characters"]}, [("lift",)] * 3),
        ({"from": "about", "ops": ["characters"]}, [("for all",)]),
        ([], [("",)]),
    ],
)
def test_texts_of_an_episode(raw, value, texts):
    instruction = parse(value)
    instruction.check(FEATURES, "here")
    assert instruction.texts(raw) == texts


def test_lists_of_texts_are_written_and_read_back(raw, tmp_path):
    shard = raw.shard.parent / "features.json"
    assert read_features(shard)["steps/several"].shape == (None,)
    assert read_features(shard)["steps/pair"].shape == (2,)
    assert to_json(read_features(shard)) == to_json(FEATURES)
    assert raw.texts("steps/text") == [("",), ("t1",), ("t2",)]
    assert raw.texts("notes") == [("n", "m")]


@pytest.mark.parametrize(
    ("value", "problem", "remedy"),
    [
        ("steps/codes", "'steps/codes' is tensor of int32 (24,), not text", 'ops = ["characters"]'),
        ("steps/state", "'steps/state' is tensor of float32 (3,), not text", "steps/text"),
        ({"from": "steps/text", "ops": ["characters"]}, "text already", "leave `ops` out"),
        ({"from": "steps/state", "ops": ["characters"]}, "not text", "notes"),
        ("steps/txet", "no feature 'steps/txet'", "steps/text"),
    ],
)
def test_the_type_is_checked_before_any_episode(value, problem, remedy):
    with pytest.raises(SchemaError) as caught:
        parse(value).check(FEATURES, "here")
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy
