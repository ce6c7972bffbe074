"""What a study compares: its file, read and checked as a whole before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from depthtok.api.eval import evaluate
from depthtok.api.interface import Interface, read, settings_of
from depthtok.api.tables import read_tables
from depthtok.api.train_vla import train_vla
from depthtok.config import convert, flat, to_json
from depthtok.errors import ConfigError, did_you_mean

_EXAMPLE = """write, for example
  out = "runs/ablation"
  seeds = [0, 1, 2]
  variants = ["tiny", "tiny+causal", "tiny+no-depth-loss"]
  [train-vla]
  episodes = ["runs/episodes"]
  codes = ["runs/codes"]
  steps = 500"""

_DECIDED = ("out", "seed", "preset", "resume", "plan")
"""Arguments of train-vla that the study decides: it trains, and resumes."""
_DECIDED_OF_EVAL = ("policy", "out", "resume", "shard", "limit", "plan")
_OF_PLACE = ("simulators", "workers", "device", "videos")
"""Arguments of eval that change no trial."""
_KINDS = {
    "out": Path,
    "results": Path,
    "seeds": tuple[int, ...],
    "variants": list[str] | dict[str, Any],
    "train-vla": dict[str, Any],
    "eval": dict[str, Any],
    "compare": list[list[str]],
}
_NEEDED = ("out", "seeds", "variants", "train-vla")
_RESERVED = "results"  # of `out`: where logs lie, and the files of the seeds if not elsewhere


@dataclass(frozen=True)
class Variant:
    """An arm: a preset with ablations, settings, and arguments of train-vla of its own."""

    preset: str
    settings: Mapping[str, object]
    flags: Mapping[str, Any]


@dataclass(frozen=True)
class Study:
    """What is compared: variants by name, each a preset (with ablations) and settings."""

    out: Path
    seeds: tuple[int, ...]
    variants: Mapping[str, Variant]
    flags: Mapping[str, Any]  # of train-vla, for all
    playing: Mapping[str, object] | None = None  # arguments of eval, where policies are played
    compare: tuple[tuple[str, str], ...] = ()  # the first is the primary difference
    results_elsewhere: Path | None = None  # where the files of the seeds lie, if not in `out`

    @classmethod
    def read(cls, content: Mapping[str, Any], where: str) -> Study:
        """From TOML values. Raises `ConfigError` for what is unknown, missing or mistyped."""
        content = {"seeds": (0, 1, 2), **content}
        values = read_tables(content, _KINDS, _NEEDED, where, _EXAMPLE)
        _require_distinct(values["seeds"], where)
        variants = dict(_variants(values["variants"], where))
        flags = _flags(values["train-vla"], f"{where}: [train-vla]", read(train_vla), _DECIDED)
        if not flags.get("episodes") and not all(
            v.flags.get("episodes") for v in variants.values()
        ):
            raise ConfigError(f"{where}: [train-vla] names no `episodes`", remedy=_EXAMPLE)
        playing = None
        if "eval" in values:
            of_eval = f"{where}: [eval]"
            playing = _flags(values["eval"], of_eval, read(evaluate), _DECIDED_OF_EVAL)
        pairs = tuple(_pairs(values.get("compare"), [*variants], where))
        elsewhere = values.get("results")
        return cls(values["out"], values["seeds"], variants, flags, playing, pairs, elsewhere)

    def runs(self) -> Iterator[tuple[str, int, Path]]:
        """Variant, seed and place of every training."""
        for seed in self.seeds:
            for name in self.variants:
                yield name, seed, self.run(name, seed)

    @property
    def results(self) -> Path:
        """Where the files of the seeds lie."""
        return self.results_elsewhere or self.out / _RESERVED

    def first(self, seeds: int) -> Study:
        """The same with so many of its seeds only. Raises `ConfigError` if it has fewer."""
        if seeds > len(self.seeds):
            raise ConfigError(
                f"there are {len(self.seeds)} seeds, not {seeds}", remedy="give a smaller --first"
            )
        return replace(self, seeds=self.seeds[:seeds])

    def log(self, name: str, seed: int) -> Path:
        """What a training says, where it has a process of its own."""
        return self.out / _RESERVED / name / f"seed-{seed}.log"

    def run(self, name: str, seed: int) -> Path:
        """Where a training lies."""
        return self.out / name / f"seed-{seed}"

    def trainings(self, threads: int | None = None) -> list[tuple[str, dict[str, Any]]]:
        """Title and arguments of every training, with so many `threads` where the study states
        none. Raises `ConfigError` for settings of a variant that are none: before the first
        training, and not after hours of it."""
        interface, trainings = read(train_vla), []
        for name, seed, out in self.runs():
            variant = self.variants[name]
            changes = {
                **settings_of(self.flags.get("set")),
                **settings_of(variant.flags.get("set")),
                **variant.settings,
            }
            chosen = {"preset": variant.preset, "seed": seed, "out": out, "set": changes}
            flags = {"threads": threads, **self.flags, **variant.flags}
            arguments = interface.bind({**flags, **chosen}, "[train-vla]")
            trainings.append((f"{name}, seed {seed}", arguments))
        return trainings

    def played(self, run: Path, depth: str) -> dict[str, Any] | None:
        """The arguments with which a run is played; `depth` is its depth expert's target ("" if
        that is not the codes of what it sees). Raises `ConfigError` for true depth as an input
        without a codebook."""
        if self.playing is None:
            return None
        flags = {**self.playing, "policy": str(run), "out": run / "eval"}
        if not depth:
            flags.pop("codebook", None)
        if depth == "input" and not flags.get("codebook"):
            raise ConfigError(
                f"{run} takes the codes of true depth, and [eval] names no `codebook`",
                remedy="name the codebook that the codes are of",
            )
        return read(evaluate).bind(flags, "[eval]")

    @cached_property
    def of_trials(self) -> dict[str, object] | None:
        """What decides trials, as plain values."""
        if self.playing is None:
            return None
        return {name: to_json(v) for name, v in self.playing.items() if name not in _OF_PLACE}


def _require_distinct(seeds: tuple[int, ...], where: str) -> None:
    """Raises `ConfigError` for a seed that is there twice: its training would count as two that
    agree."""
    if len({*seeds}) < len(seeds):
        raise ConfigError(
            f"{where}: `seeds` cannot be {list(seeds)}", remedy="give each seed once: [0, 1, 2]"
        )


def _flags(
    table: Mapping[str, Any], where: str, interface: Interface, decided: tuple[str, ...]
) -> dict[str, object]:
    """The arguments of a command that a study may give, of their types."""
    interface.require_known(table, where, without=decided)
    by_name = {parameter.name: parameter for parameter in interface.parameters}
    flags = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name == "set":
            flags[name] = convert(value, list[str], f"{where}: `set`")
        else:
            flags[name] = by_name[name].converted(value, where)
    return flags


def _variants(variants: Any, where: str) -> Iterator[tuple[str, Variant]]:
    """A list of presets, or a table: name = preset, or name = {preset = ..., "train.lr" = ...}."""
    if isinstance(variants, list):
        variants = {name: name for name in variants}
    for name, value in variants.items():
        of_variant = f"{where}: `variants.{name}`"
        if name == _RESERVED:
            raise ConfigError(f"{of_variant}: that name is taken", remedy="give it another one")
        table = {"preset": value} if isinstance(value, str) else value
        table = convert(table, dict[str, Any], of_variant)
        preset = convert(table.pop("preset", "tiny"), str, f"{of_variant}.preset")
        of_training = f"{where}: `variants.{name}.train-vla`"
        flags = convert(table.pop("train-vla", {}), dict[str, Any], of_training)
        flags = _flags(flags, of_training, read(train_vla), _DECIDED)
        yield name, Variant(preset, flat(table), flags)


def _pairs(
    pairs: list[list[str]] | None, names: list[str], where: str
) -> Iterator[tuple[str, str]]:
    """Which arms are compared: as stated, or the first with each of the others."""
    for pair in [[names[0], name] for name in names[1:]] if pairs is None else pairs:
        for name in pair:
            if name not in names:
                problem = f"{where}: `compare` names {name!r}, which is no variant"
                raise ConfigError(problem, remedy=did_you_mean(name, names))
        if len(pair) != 2 or pair[0] == pair[1]:
            raise ConfigError(
                f"{where}: `compare` has {pair!r}", remedy='give pairs: [["full", "shuffled"]]'
            )
        yield pair[0], pair[1]
