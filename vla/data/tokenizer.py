"""Instructions to token ids in PaliGemma's format: `<bos>`, instruction, newline.

`ByteTokenizer` needs no files and is for small models; real runs read the `tokenizer.json` of their
weights through the `tokenizers` package (extra `hf`).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int64

from depthtok.disk.regular import require_file
from depthtok.errors import ConfigError, MissingPackage
from vla.weights import hub

AUTO, BYTES = "auto", "bytes"
FILE = "tokenizer.json"


@runtime_checkable
class Tokenizer(Protocol):
    """Turns text into token ids."""

    name: str  # `bytes`, or where its file is
    bos: int
    pad: int
    size: int  # rows of an embedding that it needs

    @property
    def content(self) -> bytes | None:
        """Its tokenizer.json, if it has one."""
        ...

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens."""
        ...


class ByteTokenizer:
    """UTF-8 bytes; ids 0 to 3 are the special tokens, as in PaliGemma."""

    name, content = BYTES, None
    pad, eos, bos, unknown = range(4)
    size = 260

    def encode(self, text: str) -> list[int]:
        return [byte + 4 for byte in text.encode()]


class FileTokenizer:
    """A tokenizer from a `tokenizer.json`, or from a folder that contains one.

    Special tokens written in a text are plain characters. So `<image>`, whose place the picture's
    tokens take, needs no row of the embedding. Padding and truncation that the file asks for are
    not done: `prompt` does both. Raises `ConfigError` where there is no such file.
    """

    def __init__(self, path: str | Path) -> None:
        path = _file(Path(path))
        require_file(path)
        if not path.is_file():
            raise ConfigError(
                f"there is no tokenizer at {path}",
                remedy="name a PaliGemma folder or its tokenizer.json",
            )
        self.name, self.content = str(path), path.read_bytes()
        self._tokenizer = _parsed(self.content, path)
        self.bos, self.pad = (self._special(name, path) for name in ("<bos>", "<pad>"))
        self.size = self._rows()

    def _special(self, name: str, path: Path) -> int:
        number = self._tokenizer.token_to_id(name)
        if number is None:
            raise ConfigError(f"{path} has no token {name}", remedy="use PaliGemma's tokenizer")
        return number

    def _rows(self) -> int:
        """One more than the largest id that a prompt can have."""
        tokens = self._tokenizer.get_vocab(with_added_tokens=True)
        special = {
            number
            for number, token in self._tokenizer.get_added_tokens_decoder().items()
            if token.special
        }
        unknown = {tokens[name] for name in ("<unk>",) if name in tokens}
        return 1 + max((set(tokens.values()) - special) | unknown | {self.bos, self.pad})

    def encode(self, text: str) -> list[int]:
        numbers = self._tokenizer.encode(text, add_special_tokens=False).ids
        return [number for number in numbers if number < self.size]

    def canonical(self) -> str:
        """The tokenizer however its file was formatted."""
        return self._tokenizer.to_str()


def _parsed(content: bytes, path: Path) -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise MissingPackage(
            "reading a tokenizer.json needs the package `tokenizers`",
            remedy="pip install 'depthtok[hf]', or use the tokenizer `bytes`",
        ) from error
    try:
        tokenizer = tokenizers.Tokenizer.from_buffer(content)
    except Exception as error:  # the package has no type of its own
        raise ConfigError(
            f"{path} is not a tokenizer: {error}",
            remedy="use PaliGemma's tokenizer.json (not tokenizer.model)",
        ) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True
    return tokenizer


def _file(path: Path) -> Path:
    return path / FILE if path.is_dir() else path


def same(one: Tokenizer, other: Tokenizer) -> bool:
    """Whether both turn every text into the same tokens."""
    if not (isinstance(one, FileTokenizer) and isinstance(other, FileTokenizer)):
        return one.content == other.content
    return one.content == other.content or one.canonical() == other.canonical()


def fingerprint(tokenizer: Tokenizer) -> str:
    """The SHA-256 of its file; `bytes` for bytes."""
    content = tokenizer.content
    return BYTES if content is None else hashlib.sha256(content).hexdigest()


def load(name: str, vocabulary: int | None = None) -> Tokenizer:
    """`bytes`, or the tokenizer of a file, a folder or a name on the Hub. `auto` is `bytes` where
    a model has the byte tokenizer's `vocabulary`, and else not known. Raises `ConfigError`."""
    if name == AUTO and vocabulary != ByteTokenizer.size:
        raise unknown(vocabulary)
    if name in (AUTO, BYTES):
        return ByteTokenizer()
    return FileTokenizer(hub.snapshot(name, [FILE]) if hub.is_name(name) else name)


def unknown(vocabulary: int | None, weights: str | None = None) -> ConfigError:
    """What to raise where neither settings nor weights say which tokenizer a model has."""
    rows = "" if vocabulary is None else f" for a vocabulary of {vocabulary:,}"
    problem = f"no tokenizer is given{rows}: data.tokenizer = 'auto' means that of the weights"
    if weights is not None:
        problem = f"{weights} brings no {FILE}, and data.tokenizer is not given{rows}"
    return ConfigError(
        problem,
        remedy="give the tokenizer that the embedding was trained with: --set data.tokenizer=FOLDER"
        f" (with a {FILE}), or a name on the Hugging Face Hub",
    )


def line(instruction: str) -> str:
    """An instruction as the model reads it: one line, with single spaces."""
    return " ".join(instruction.replace("_", " ").split())


def prompt(
    tokenizer: Tokenizer, instruction: str, length: int
) -> tuple[Int64[np.ndarray, " L"], Bool[np.ndarray, " L"]]:
    """The padded prompt and which of its tokens are real.

    A long instruction is truncated, but always keeps the closing newline.
    """
    newline = tokenizer.encode("\n")
    body = tokenizer.encode(line(instruction))[: max(length - 1 - len(newline), 0)]
    tokens = [tokenizer.bos, *body, *newline]
    padded = np.full(length, tokenizer.pad, np.int64)
    padded[: len(tokens)] = tokens
    return padded, np.arange(length) < len(tokens)
