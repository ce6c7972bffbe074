"""Instructions to token ids in PaliGemma's format: `<bos>`, instruction, newline.

`ByteTokenizer` needs no files and is for small models; real runs read the `tokenizer.json` of a
PaliGemma folder through the `tokenizers` package (extra `hf`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Int64

from depthtok.errors import ConfigError, MissingPackage

BYTES = "bytes"
FILE = "tokenizer.json"


class Tokenizer(Protocol):
    """Turns text into token ids."""

    bos: int
    pad: int
    size: int

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens."""
        ...


class ByteTokenizer:
    """UTF-8 bytes; ids 0 to 3 are the special tokens, as in PaliGemma."""

    pad, eos, bos, unknown = range(4)
    size = 260

    def encode(self, text: str) -> list[int]:
        return [byte + 4 for byte in text.encode()]


class FileTokenizer:
    """A tokenizer from a `tokenizer.json`, or from a folder that contains one."""

    def __init__(self, path: str | Path) -> None:
        try:
            import tokenizers
        except ImportError as error:
            raise MissingPackage(
                "reading a tokenizer.json needs the package `tokenizers`",
                remedy="pip install 'depthtok[hf]', or use the tokenizer `bytes`",
            ) from error
        path = file_of(str(path))
        if not path.is_file():
            raise ConfigError(
                f"there is no tokenizer at {path}",
                remedy="name a PaliGemma folder or its tokenizer.json",
            )
        self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        self.bos, self.pad = (self._special(name, path) for name in ("<bos>", "<pad>"))
        self.size = self._tokenizer.get_vocab_size()

    def _special(self, name: str, path: Path) -> int:
        number = self._tokenizer.token_to_id(name)
        if number is None:
            raise ConfigError(f"{path} has no token {name}", remedy="use PaliGemma's tokenizer")
        return number

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids


def file_of(name: str) -> Path | None:
    """The file of a tokenizer; None for tokenizers without one."""
    path = Path(name)
    if name == BYTES:
        return None
    return path / FILE if path.is_dir() else path


def load(name: str) -> Tokenizer:
    """`bytes`, or the tokenizer of a file or folder."""
    return ByteTokenizer() if name == BYTES else FileTokenizer(name)


def prompt(
    tokenizer: Tokenizer, instruction: str, length: int
) -> tuple[Int64[np.ndarray, " L"], Bool[np.ndarray, " L"]]:
    """The padded prompt and which of its tokens are real.

    A long instruction is truncated, but always keeps the closing newline.
    """
    line = " ".join(instruction.replace("_", " ").split())
    newline = tokenizer.encode("\n")
    body = tokenizer.encode(line)[: max(length - 1 - len(newline), 0)]
    tokens = [tokenizer.bos, *body, *newline]
    padded = np.full(length, tokenizer.pad, np.int64)
    padded[: len(tokens)] = tokens
    return padded, np.arange(length) < len(tokens)
