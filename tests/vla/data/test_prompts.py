"""What is cut, and what becomes one prompt."""

import json
import re

import pytest

from depthtok.errors import ConfigError
from depthtok.stores.instructions import Instructions
from vla.data.prompts import Prompts, check
from vla.data.tokenizer import ByteTokenizer

CABINET = {"open the top drawer": 30, "open_the  top drawer": 10, "open the top": 20, "close it": 5}
STOVE = {"close it": 7, "open the top drawer slowly": 3}


def found(length, *, empty=0, partly=0):
    sets = [
        ("cabinet", Instructions(9, CABINET, empty, partly)),
        ("stove", Instructions(4, STOVE, 0, 0)),
    ]
    return check(sets, ByteTokenizer(), length)


def test_all_fit():
    prompts = found(28)
    assert (prompts.distinct, prompts.cut, prompts.equal) == (4, 0, 0)
    assert prompts.longest == len("open the top drawer slowly") + 2
    assert [(m.distinct, m.steps) for m in prompts.members] == [(3, 65), (2, 10)]
    assert not [*prompts.warnings()]
    assert prompts.line() == "4 distinct in 13 episodes; the longest needs 28 of 28 tokens"
    prompts.require_distinct()


def test_what_is_cut_is_counted_by_data_set():
    prompts = found(20)  # 18 bytes: `open the top drawe`
    assert prompts.cut == 2
    cabinet, stove = prompts.members
    assert (cabinet.cut, cabinet.cut_steps) == (1, 40)
    assert (stove.cut, stove.cut_steps) == (1, 3)
    first, *_ = prompts.warnings()
    assert "cabinet: 1 of 3 instructions, at 40 of 65 steps" in first


@pytest.mark.parametrize(("length", "equal", "prompts"), [(20, 2, 1), (14, 3, 1), (27, 0, 0)])
def test_distinct_instructions_that_become_equal(length, equal, prompts):
    checked = found(length)
    assert (checked.equal, checked.prompts) == (equal, prompts)
    if not equal:
        checked.require_distinct()
        return
    with pytest.raises(ConfigError, match=f"{equal} distinct instructions .*cabinet, stove") as e:
        checked.require_distinct()
    assert "model.max_text=28" in e.value.remedy
    wanted = int(re.search(r"max_text=(\d+)", e.value.remedy)[1])
    found(wanted).require_distinct()  # the remedy works


def test_words_that_a_tokenizer_does_not_know_are_no_matter_of_length():
    class Deaf(ByteTokenizer):
        def encode(self, text):
            return [9 if word.istitle() else 8 for word in text.split()]

    prompts = check([("x", Instructions(2, {"red cup": 4, "blue cup": 4}, 0, 0))], Deaf(), 20)
    assert (prompts.cut, prompts.equal) == (0, 2)
    with pytest.raises(ConfigError) as error:
        prompts.require_distinct()
    assert "tokenizer that knows these words" in error.value.remedy
    assert "'red cup' and 'blue cup'" in error.value.problem


def test_episodes_without_instructions_are_said():
    prompts = found(28, empty=3, partly=1)
    assert [*prompts.warnings()] == [
        "cabinet: 3 of 9 episodes have no instruction; data.empty_instructions = 'drop' leaves "
        "them out",
        "cabinet: 1 of 9 episodes have no instruction at some of their steps",
    ]
    assert prompts.line().endswith("; 3 episodes have none")
    assert Prompts.from_json(json.loads(json.dumps(prompts.to_json()))) == prompts


def test_no_instruction_at_all():
    prompts = check([("x", Instructions(2, {}, 2, 0))], ByteTokenizer(), 20)
    assert (prompts.distinct, prompts.longest, prompts.equal) == (0, 2, 0)
