"""The robot's instruction: which features hold it, how they are decoded, which of several is used.

A schema states it as one path, as a list of alternatives, or as a table:

    [instruction]
    from = "steps/observation/instruction"   # a path, or several
    ops = ["characters"]                     # the features hold character codes, not text
    pick = "draw"                            # keep all texts; training draws one

or, for a data set whose episodes all do the same and do not say what, as `text = "lift the cube"`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer

from depthtok.errors import CorruptRecord, SchemaError, did_you_mean
from depthtok.sources.columns import FeatureFacts, ReadableEpisode, feature
from depthtok.sources.table import SchemaTable

OPERATIONS = {"characters": "integers, one a character, zeros at the end, to text"}
PICKS = {
    "first": "the first text that is not empty",
    "draw": "all texts that are not empty are kept, and training draws one by seed and epoch",
}
_INTEGERS = ("int8", "int16", "int32", "int64")
_LAST_CHARACTER = 0x10FFFF


@dataclass(frozen=True)
class Instruction:
    """Features that hold instructions, in the order of preference; () where there are none."""

    paths: tuple[str, ...] = ()
    ops: tuple[str, ...] = ()  # of OPERATIONS
    pick: str = "first"  # one of PICKS
    text: str = ""  # of all episodes, where no feature says it

    @classmethod
    def parse(cls, schema: SchemaTable) -> Instruction:
        """Reads the field `instruction` of a schema. Raises `SchemaError`."""
        if not isinstance(schema.data.get("instruction"), dict):
            return cls(schema.texts("instruction"))
        table = SchemaTable(schema.take("instruction", dict), f"{schema.where} [instruction]")
        if "text" in table.data:
            text = table.take("text", str)
            table.finish()
            return cls(text=text)
        paths, ops = table.texts("from"), table.texts("ops", [])
        pick = table.choice("pick", tuple(PICKS), "first")
        table.finish()
        for op in ops:
            if op not in OPERATIONS:
                raise SchemaError(
                    f"{table.where}: there is no operation {op!r} for instructions",
                    remedy=did_you_mean(op, list(OPERATIONS)),
                )
        return cls(paths, ops, pick)

    def to_json(self) -> list[str] | dict:
        """What `parse` reads; a plain list of paths where all else is the default."""
        if self.text:
            return {"text": self.text}
        if not self.ops and self.pick == "first":
            return list(self.paths)
        table: dict = {"from": list(self.paths)}
        table |= {"ops": list(self.ops)} if self.ops else {}
        return table | ({"pick": self.pick} if self.pick != "first" else {})

    def check(self, features: Mapping[str, FeatureFacts], where: str) -> None:
        """Raises `SchemaError` unless every feature has the type that the operations need."""
        for path in self.paths:
            source = feature(features, path, f"{where}, instruction")
            description = f"{where}, instruction: {path!r} is {source.kind} of {source.dtype}"
            if is_text(source):
                if self.ops:
                    raise SchemaError(f"{description}: text already", remedy="leave `ops` out")
            elif not is_codes(source):
                texts = [name for name in features if is_text(features[name])]
                raise SchemaError(
                    f"{description} {source.shape}, not text",
                    remedy=f"name a text feature: {', '.join(texts) or 'there is none'}",
                )
            elif not self.ops:
                raise SchemaError(
                    f"{description} {source.shape}, not text",
                    remedy="if these are character codes, write "
                    f'instruction = {{ from = "{path}", ops = ["characters"] }}',
                )

    def texts(self, raw: ReadableEpisode) -> list[tuple[str, ...]]:
        """The texts to use, one entry for the episode or one for each step: a single text, or with
        `pick = "draw"` all of them. An entry without any holds one empty text."""
        if self.text:
            return [(self.text,)]
        stored = [self._texts_of_feature(raw, path) for path in self.paths]
        if all(len(rows) == 1 for rows in stored):
            return [self._pick_texts([rows[0] for rows in stored])]
        steps = len(raw)
        rows = [texts * steps if len(texts) == 1 else texts for texts in stored]
        entries = list(zip(*rows, strict=True))
        picked = {entry: self._pick_texts(entry) for entry in set(entries)}  # most say the same
        return [picked[entry] for entry in entries]

    def _pick_texts(self, entry: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
        """The texts to use of those of all features in one entry, without empty and equal ones."""
        texts_in_order = (text for texts in entry for text in texts if text.strip())
        distinct = tuple(dict.fromkeys(texts_in_order)) or ("",)
        return distinct if self.pick == "draw" else distinct[:1]

    def _texts_of_feature(self, raw: ReadableEpisode, path: str) -> list[tuple[str, ...]]:
        """All texts of a feature: one entry for the episode, or one for each step."""
        if not self.ops:
            return raw.texts(path)
        codes = np.asarray(raw.values(path))
        rows = codes if raw.features[path].per_step else codes[None]
        texts: dict[bytes, tuple[str, ...]] = {}  # most steps say the same
        entries = []
        for row in rows:
            key = row.tobytes()
            if key not in texts:
                lines = row.reshape(-1, row.shape[-1])
                texts[key] = tuple(decoded(line, f"episode {raw.index}, {path}") for line in lines)
            entries.append(texts[key])
        return entries


def is_text(found: FeatureFacts) -> bool:
    """Whether a feature is a text, or a list of texts."""
    return (found.kind == "text" or found.dtype in ("str", "object")) and len(found.shape) <= 1


def is_codes(found: FeatureFacts) -> bool:
    """Whether a feature could hold character codes: rows of integers."""
    integers = found.kind == "tensor" and found.dtype.lstrip("u") in _INTEGERS
    return integers and len(found.shape) in (1, 2)


def decoded(codes: Integer[np.ndarray, " n"], where: str) -> str:
    """Character codes up to the first 0 as text.

    Codes below 256 throughout are the bytes of UTF-8, or characters where they are not valid UTF-8
    (Latin-1); with any larger code all of them are characters (code points). Raises `CorruptRecord`
    for a number that is no character.
    """
    ends = np.flatnonzero(codes == 0)
    codes = codes[: ends[0]] if len(ends) else codes
    if not len(codes):
        return ""
    numbers = codes.tolist()
    if max(numbers) < 256 and min(numbers) > 0:
        data = bytes(numbers)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return data.decode("latin-1")
    wrong = [n for n in numbers if not 0 < n <= _LAST_CHARACTER or 0xD800 <= n <= 0xDFFF]
    if wrong:
        raise CorruptRecord(
            f"{where}: {wrong[0]} is not a character",
            remedy="the feature does not hold character codes: name another in the schema",
        )
    return "".join(map(chr, numbers))
