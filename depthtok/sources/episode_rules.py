"""Which episodes of a data set are used: the table `[keep.episodes]` of a schema.

A feature of the step counts as true, or as having a value, if one step of the episode does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from depthtok.errors import SchemaError
from depthtok.sources.columns import FeatureFacts, ReadableEpisode, feature
from depthtok.sources.features import values_in
from depthtok.sources.instruction import is_text
from depthtok.sources.table import SchemaTable

NOT_EMPTY = "not empty"
Value = str | int | float | bool


@dataclass(frozen=True)
class Rule:
    """One test of one feature, which passes if any of the `values` does."""

    test: str  # if_true, if_false, equals, contains, lacks
    path: str
    values: tuple[Value, ...] = ()

    @property
    def reason(self) -> str:
        """Why an episode that does not pass is left out, for people."""
        values = " or ".join(
            f'"{value}"' if isinstance(value, str) else str(value).lower() for value in self.values
        )
        failures = {
            "if_true": "is not true",
            "if_false": "is true",
            "equals": f"is not {values}",
            "contains": f"does not contain {values}",
            "lacks": f"contains {values}",
        }
        return f"{self.path} {failures[self.test]}"

    def check(self, features: Mapping[str, FeatureFacts], where: str) -> None:
        """Raises `SchemaError` unless the feature exists and its type fits the test."""
        location = f"{where}.{self.test}"
        source = feature(features, self.path, location)
        by_text = isinstance(next(iter(self.values), 0), str) or self.test in ("contains", "lacks")
        is_number = source.kind in ("scalar", "tensor", "class_label") and not is_text(source)
        if not (is_text(source) if by_text else is_number and values_in(source.shape) == 1):
            raise SchemaError(
                f"{location}: {self.path!r} is {source.kind} of {source.dtype} {source.shape}, not "
                + ("text" if by_text else "a single number"),
                remedy="name another feature, or give a value of its type",
            )

    def passes(self, raw: ReadableEpisode) -> bool:
        """Whether the episode passes."""
        if self.test in ("if_true", "if_false"):
            return bool(np.any(raw.values(self.path))) == (self.test == "if_true")
        if isinstance(self.values[0], str):
            texts = {text for entry in raw.texts(self.path) for text in entry}
            if self.test == "equals":
                return not texts.isdisjoint(self.values)
            inside = any(str(value) in text for text in texts for value in self.values)
            return inside == (self.test == "contains")
        stored = np.asarray(raw.values(self.path))
        values = np.asarray(self.values)
        if stored.dtype.kind == "f":  # 0.1 is the float32 that is nearest to it
            values = values.astype(stored.dtype)
        return bool(np.isin(stored, values).any())


@dataclass(frozen=True)
class EpisodeRules:
    """Which episodes are used; all by default."""

    min_steps: int = 0
    instruction: bool = False  # must not be empty
    rules: tuple[Rule, ...] = ()

    @classmethod
    def parse(cls, table: SchemaTable) -> EpisodeRules:
        """Reads a `[keep.episodes]` table. Raises `SchemaError`."""
        min_steps = table.take("min_steps", int, 0)
        instruction = table.choice("instruction", (NOT_EMPTY,), "") == NOT_EMPTY
        rules = [
            Rule(test, path) for test in ("if_true", "if_false") for path in table.texts(test, [])
        ]
        for test in ("equals", "contains", "lacks"):
            for path, value in table.take(test, dict, {}).items():
                values = tuple(value) if isinstance(value, list) else (value,)
                _require_values(values, test, path, table.where)
                rules.append(Rule(test, path, values))
        table.finish()
        if min_steps < 0:
            raise SchemaError(f"{table.where}: min_steps = {min_steps}", remedy="give 0 or more")
        return cls(min_steps, instruction, tuple(rules))

    def to_json(self) -> dict:
        """The table that `parse` reads; {} where every episode is used."""
        table: dict = {"min_steps": self.min_steps} if self.min_steps else {}
        table |= {"instruction": NOT_EMPTY} if self.instruction else {}
        for rule in self.rules:
            if rule.values:
                table.setdefault(rule.test, {})[rule.path] = list(rule.values)
            else:
                table.setdefault(rule.test, []).append(rule.path)
        return table

    def check(self, features: Mapping[str, FeatureFacts], where: str) -> None:
        """Raises `SchemaError` unless every feature exists and its type fits the test."""
        for rule in self.rules:
            rule.check(features, where)

    def against(self, raw: ReadableEpisode, steps: int, texts: list[tuple[str, ...]]) -> str | None:
        """Why the episode is left out; None if it is used. `steps` is the number of steps kept,
        `texts` are its instructions."""
        if steps < self.min_steps:
            return f"fewer than {self.min_steps} steps"
        if self.instruction and not any(text.strip() for entry in texts for text in entry):
            return "the instruction is empty"
        return next((rule.reason for rule in self.rules if not rule.passes(raw)), None)


def _require_values(values: tuple[object, ...], test: str, path: str, location: str) -> None:
    """Raises `SchemaError` unless all are texts, or for the test `equals` all are numbers."""
    kinds = (str,) if test != "equals" else (str, bool, int, float)
    mixed = len({isinstance(value, str) for value in values}) != 1
    if mixed or not all(isinstance(value, kinds) for value in values):
        raise SchemaError(
            f'{location} {test}: "{path}" = {list(values)}',
            remedy="give a text, or several" if test != "equals" else "give a text or a number",
        )
