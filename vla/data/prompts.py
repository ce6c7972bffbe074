"""What a model will read of the instructions that it is trained on, found before the training.

Every distinct instruction is tokenised once. A prompt holds `model.max_text` tokens: what is longer
is cut, and instructions that differ behind the cut become one. The model then sees the same words
for different tasks, and no figure of the training shows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any

from depthtok.errors import ConfigError
from depthtok.stores.instructions import NAME_IT, Instructions
from vla.data.tokenizer import Tokenizer, fingerprint, line

SHOWN = 10  # of a kind: texts that are kept and shown


@dataclass(frozen=True)
class DataSetPrompts:
    """The instructions of one data set."""

    name: str
    episodes: int
    distinct: int
    cut: int  # of the distinct ones
    steps: int  # that have an instruction
    cut_steps: int  # that have one that is cut
    equal: int  # of the distinct ones, that become the prompt of another
    empty: int  # episodes without any
    partly: int  # episodes without any at some steps


@dataclass(frozen=True)
class Prompts:
    """The instructions of a training as prompts."""

    tokenizer: str
    sha256: str
    max_text: int
    longest: int  # tokens that the longest instruction needs
    distinct: int
    cut: int
    equal: int  # of the distinct ones, that become the prompt of another
    prompts: int  # distinct ones that those become
    cut_texts: list[str]  # some of them
    equal_texts: list[list[str]]  # some of them, grouped by prompt
    members: list[DataSetPrompts]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Prompts:
        """The inverse of `to_json`."""
        return cls(**{**data, "members": [DataSetPrompts(**member) for member in data["members"]]})

    def line(self) -> str:
        """The summary."""
        episodes = sum(member.episodes for member in self.members)
        text = (
            f"{self.distinct:,} distinct in {episodes:,} episodes; the longest needs "
            f"{self.longest} of {self.max_text} tokens"
        )
        empty = sum(member.empty for member in self.members)
        counts = ((self.cut, "cut"), (self.equal, "become equal"))
        text += "".join(f"; {count:,} {what}" for count, what in counts if count)
        return text + (f"; {empty:,} episodes have none" if empty else "")

    def warnings(self) -> Iterator[str]:
        """What is cut or empty, by data set."""
        for member in self.members:
            if member.cut:
                yield (
                    f"{member.name}: {member.cut:,} of {member.distinct:,} instructions, at "
                    f"{member.cut_steps:,} of {member.steps:,} steps, are cut to "
                    f"model.max_text = {self.max_text} tokens (the longest needs {self.longest})"
                )
            if member.empty:
                all_of_them = member.empty == member.episodes
                remedy = "data.empty_instructions = 'drop' leaves them out"
                yield (
                    f"{member.name}: {member.empty:,} of {member.episodes:,} episodes have no "
                    f"instruction; {NAME_IT if all_of_them else remedy}"
                )
            if member.partly:
                yield (
                    f"{member.name}: {member.partly:,} of {member.episodes:,} episodes have no "
                    "instruction at some of their steps"
                )
        if self.equal:
            yield self._equal()

    def require_distinct(self) -> None:
        """Raises `ConfigError` where different instructions become one prompt."""
        if not self.equal:
            return
        remedy = "give the tokenizer that knows these words (data.tokenizer)"
        if self.longest > self.max_text:
            remedy = f"give --set model.max_text={self.longest}"
        raise ConfigError(
            self._equal(), remedy=f"{remedy}, or train all the same: --set data.equal_prompts=allow"
        )

    def _equal(self) -> str:
        names = [member.name for member in self.members if member.equal]
        examples = " and ".join(map(repr, self.equal_texts[0][:2]))
        return (
            f"{self.equal:,} distinct instructions (of {', '.join(names)}) become {self.prompts:,} "
            f"prompt{'' if self.prompts == 1 else 's'}, with {self.max_text} tokens of the "
            f"tokenizer {self.tokenizer}: {examples} are the same to the model"
        )


def check(
    instructions: Sequence[tuple[str, Instructions]], tokenizer: Tokenizer, length: int
) -> Prompts:
    """The prompts of data sets' instructions, by name, with `length` tokens."""
    needs: dict[str, int] = {}  # tokens of every distinct line
    groups: dict[bytes, list[str]] = {}  # lines by prompt
    extra = 1 + len(tokenizer.encode("\n"))  # <bos>, newline
    for text in (text for _, of_data_set in instructions for text in of_data_set.texts):
        if (words := line(text)) in needs:
            continue
        tokens = tokenizer.encode(words)
        needs[words] = len(tokens) + extra
        prompt = repr(tokens[: max(length - extra, 0)]).encode()
        groups.setdefault(blake2b(prompt, digest_size=16).digest(), []).append(words)
    merged = [group for group in groups.values() if len(group) > 1]
    equal = {words for group in merged for words in group}
    cut = [words for words, count in needs.items() if count > length]
    return Prompts(
        tokenizer.name,
        fingerprint(tokenizer),
        max_text=length,
        longest=max(needs.values(), default=extra),
        distinct=len(needs),
        cut=len(cut),
        equal=len(equal),
        prompts=len(merged),
        cut_texts=cut[:SHOWN],
        equal_texts=[group[:SHOWN] for group in merged[:SHOWN]],
        members=[_of_data_set(*named, needs, equal, length) for named in instructions],
    )


def _of_data_set(
    name: str, instructions: Instructions, needs: Mapping[str, int], equal: set[str], length: int
) -> DataSetPrompts:
    lines = {line(text) for text in instructions.texts}
    cut = {words for words in lines if needs[words] > length}
    return DataSetPrompts(
        name,
        instructions.episodes,
        distinct=len(lines),
        cut=len(cut),
        steps=sum(instructions.texts.values()),
        cut_steps=sum(steps for text, steps in instructions.texts.items() if line(text) in cut),
        equal=len(lines & equal),
        empty=instructions.empty,
        partly=instructions.partly,
    )
