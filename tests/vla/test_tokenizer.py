"""Prompts of both tokenizers."""

import json

import pytest

from depthtok.errors import ConfigError
from vla.tokenizer import ByteTokenizer, FileTokenizer, load, prompt


def test_bytes():
    tokens, valid = prompt(ByteTokenizer(), " open_the  lid\n", 16)
    assert tokens[0] == ByteTokenizer.bos
    assert bytes(t - 4 for t in tokens[valid][1:]) == b"open the lid\n"
    assert (tokens[~valid] == ByteTokenizer.pad).all()


def test_long_instructions_keep_their_newline():
    tokens, valid = prompt(ByteTokenizer(), "x" * 50, 10)
    assert valid.all()
    assert bytes(t - 4 for t in tokens[1:]) == b"x" * 8 + b"\n"


def test_a_file(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    words = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "open": 4, "lid": 5, "\n": 6}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Split(" ", "removed")
    made.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load(str(tmp_path))
    tokens, valid = prompt(tokenizer, "open the lid", 8)
    assert tokens.tolist() == [2, 4, 3, 5, 6, 0, 0, 0]
    assert valid.sum() == 5
    assert tokenizer.size == 7


def test_what_is_no_tokenizer(tmp_path):
    pytest.importorskip("tokenizers")
    with pytest.raises(ConfigError, match="no tokenizer"):
        FileTokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text(
        json.dumps(
            {"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}
        )
    )
    with pytest.raises(ConfigError, match="no token <bos>"):
        FileTokenizer(tmp_path)
