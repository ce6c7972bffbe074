"""Prompts of both tokenizers."""

import json

import pytest

from depthtok.errors import ConfigError
from depthtok.testing import make_tokenizer
from vla.data.tokenizer import ByteTokenizer, FileTokenizer, load, prompt, same


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
    word_level = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    word_level.pre_tokenizer = tokenizers.pre_tokenizers.Split(" ", "removed")
    word_level.save(str(tmp_path / "tokenizer.json"))
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


def test_the_image_token_needs_no_row_and_no_text_has_it(tmp_path):
    """PaliGemma: 257,152 tokens and `<image>`, which may have no row of the embedding."""
    pytest.importorskip("tokenizers")
    reader = load(str(make_tokenizer(tmp_path, ["open", "lid"])))
    assert reader._tokenizer.token_to_id("<image>") == 7
    assert reader.size == 7
    tokens, valid = prompt(reader, "open <image> lid", 8)
    assert tokens[valid].tolist() == [2, 5, 3, 6, 4]
    word = load(str(make_tokenizer(tmp_path, ["open", "lid", "<image>"])))  # a word of its own, too
    assert word.size == 7
    assert word.encode("open <image> lid") == [5, 6]


def test_what_a_file_says_of_padding_and_length_is_left_to_the_prompt(tmp_path):
    pytest.importorskip("tokenizers")
    plain = load(str(make_tokenizer(tmp_path / "plain", ["open", "lid"])))
    extra = {"truncation": {"max_length": 2}, "padding": {"length": 16}}
    saved = load(str(make_tokenizer(tmp_path / "saved", ["open", "lid"], **extra)))
    text = "open lid open lid"
    assert saved.encode(text) == plain.encode(text) == [5, 6, 5, 6]
    assert plain.content != saved.content
    assert same(plain, saved)


def test_same_means_the_same_tokens(tmp_path):
    pytest.importorskip("tokenizers")
    one, other = (make_tokenizer(tmp_path / name, [name, "lid"]) for name in ("open", "close"))
    assert same(load(str(one)), load(str(one / "tokenizer.json")))
    assert not same(load(str(one)), load(str(other)))
    assert not same(load(str(one)), ByteTokenizer())
    assert same(ByteTokenizer(), ByteTokenizer())
    path = one / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text())))  # other bytes
    assert same(load(str(make_tokenizer(tmp_path / "again", ["open", "lid"]))), load(str(one)))


def test_auto_is_bytes_for_the_vocabulary_of_bytes_only():
    assert isinstance(load("auto", 260), ByteTokenizer)
    for rows in (261, 257_216, None):
        with pytest.raises(ConfigError, match=r"data.tokenizer=FOLDER"):
            load("auto", rows)


def test_a_damaged_file_is_named(tmp_path):
    pytest.importorskip("tokenizers")
    (tmp_path / "tokenizer.json").write_bytes(b'{"version": "1.0"')
    with pytest.raises(ConfigError, match=r"tokenizer\.json is not a tokenizer"):
        load(str(tmp_path))
