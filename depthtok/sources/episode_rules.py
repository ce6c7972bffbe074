"""Which episodes of a data set are used: the table `[keep.episodes]` of a schema.

A feature of the step counts as true, or as having a value, if one step of the episode does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from depthtok.errors import SchemaError
from depthtok.sources.columns import Feature, RawEpisode, feature
from depthtok.sources.features import values_in
from depthtok.sources.instruction import is_text
from depthtok.sources.table import Table

NOT_EMPTY = "not empty"
Value = str | float | bool


@dataclass(frozen=True)
class Rule:
    """One test of one feature. `values`: any of them will do."""

    test: str  # if_true, if_false, equals, contains, lacks
    path: str
    values: tuple[Value, ...] = ()

    @property
    def reason(self) -> str:
        """Why an episode is left out that does not pass."""
        values = " or ".join(
            f'"{value}"' if isinstance(value, str) else str(value).lower() for value in self.values
        )
        told = {
            "if_true": "is not true",
            "if_false": "is true",
            "equals": f"is not {values}",
            "contains": f"does not contain {values}",
            "lacks": f"contains {values}",
        }
        return f"{self.path} {told[self.test]}"

    def check(self, features: Mapping[str, Feature], where: str) -> None:
        """Raises `SchemaError` unless the feature is there, and can be tested."""
        where = f"{where}.{self.test}"
        found = feature(features, self.path, where)
        wants_text = self.test in ("contains", "lacks") or isinstance(
            next(iter(self.values), 0), str
        )
        single = found.kind in ("scalar", "tensor", "class_label") and (values_in(found.shape) == 1)
        if not (is_text(found) if wants_text else single and not is_text(found)):
            raise SchemaError(
                f"{where}: {self.path!r} is {found.kind} of {found.dtype} {found.shape}, not "
                + ("text" if wants_text else "a single number"),
                remedy="name another feature, or give a value of its type",
            )

    def passes(self, raw: RawEpisode) -> bool:
        """Whether the episode passes."""
        if self.test in ("if_true", "if_false"):
            return bool(np.any(raw.values(self.path))) == (self.test == "if_true")
        if isinstance(self.values[0], str):
            texts = {text for entry in raw.texts(self.path) for text in entry}
            if self.test == "equals":
                return not texts.isdisjoint(self.values)
            inside = any(str(value) in text for text in texts for value in self.values)
            return inside == (self.test == "contains")
        return bool(np.isin(raw.values(self.path), self.values).any())


@dataclass(frozen=True)
class EpisodeRules:
    """Which episodes are used; all by default."""

    min_steps: int = 0
    instruction: bool = False  # must not be empty
    rules: tuple[Rule, ...] = ()

    @classmethod
    def parse(cls, table: Table) -> EpisodeRules:
        """Reads a `[keep.episodes]` table."""
        least = table.take("min_steps", int, 0)
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
        if least < 0:
            raise SchemaError(f"{table.where}: min_steps = {least}", remedy="give 0 or more")
        return cls(least, instruction, tuple(rules))

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

    def check(self, features: Mapping[str, Feature], where: str) -> None:
        """Raises `SchemaError` unless every feature is there, and can be tested."""
        for rule in self.rules:
            rule.check(features, where)

    def against(self, raw: RawEpisode, steps: int, texts: list[tuple[str, ...]]) -> str | None:
        """Why the episode is left out; None if it is used. `steps`: how many of them are kept;
        `texts`: its instructions."""
        if steps < self.min_steps:
            return f"fewer than {self.min_steps} steps"
        if self.instruction and not any(text.strip() for entry in texts for text in entry):
            return "the instruction is empty"
        return next((rule.reason for rule in self.rules if not rule.passes(raw)), None)


def _require_values(values: tuple, test: str, path: str, where: str) -> None:
    kinds = (str,) if test != "equals" else (str, bool, int, float)
    mixed = len({isinstance(value, str) for value in values}) != 1
    if mixed or not all(isinstance(value, kinds) for value in values):
        raise SchemaError(
            f'{where} {test}: "{path}" = {list(values)}',
            remedy="give a text, or several" if test != "equals" else "give a text or a number",
        )
