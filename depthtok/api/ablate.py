"""Named variants over seeds, trained or resumed, and one table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from depthtok.api.interface import read, settings_of
from depthtok.api.parameters import Positional
from depthtok.api.train_vla import train_vla
from depthtok.config import convert, flat, load_toml
from depthtok.errors import ConfigError, did_you_mean
from depthtok.log import announce

if TYPE_CHECKING:
    from vla.evaluation.ablation import AblationTable

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
_KINDS = {
    "out": Path,
    "seeds": tuple[int, ...],
    "variants": list[str] | dict[str, Any],
    "train-vla": dict[str, Any],
}


@dataclass(frozen=True)
class Ablation:
    """The figures of every variant over its seeds, and the page that shows them."""

    table: AblationTable
    page: Path


@dataclass(frozen=True)
class Study:
    """What is compared: variants by name, each a preset (with ablations) and settings."""

    out: Path
    seeds: tuple[int, ...]
    variants: Mapping[str, tuple[str, Mapping[str, Any]]]
    flags: Mapping[str, Any]  # of train-vla, for all

    @classmethod
    def read(cls, content: Mapping[str, Any], where: str) -> Study:
        """From TOML values. Raises `ConfigError` for what is unknown, missing or mistyped."""
        for key in content:
            if key not in _KINDS:
                raise ConfigError(
                    f"{where}: there is no {key!r}", remedy=did_you_mean(key, [*_KINDS])
                )
        values = {
            key: convert(value, _KINDS[key], f"{where}: `{key}`")
            for key, value in {"seeds": (0, 1, 2), **content}.items()
        }
        for key in _KINDS:
            if not values.get(key):
                raise ConfigError(f"{where}: `{key}` is not given", remedy=_EXAMPLE)
        variants = dict(_variants(values["variants"], where))
        return cls(values["out"], values["seeds"], variants, _flags(values["train-vla"], where))

    def runs(self) -> Iterator[tuple[str, int, Path]]:
        """Variant, seed and place of every training."""
        for seed in self.seeds:
            for name in self.variants:
                yield name, seed, self.run(name, seed)

    def run(self, name: str, seed: int) -> Path:
        """Where a training lies."""
        return self.out / name / f"seed-{seed}"

    def trainings(self) -> list[tuple[str, dict[str, Any]]]:
        """Title and arguments of every training. Raises `ConfigError` for settings of a variant
        that are none: before the first training, and not after hours of it."""
        interface, trainings = read(train_vla), []
        for name, seed, out in self.runs():
            preset, settings = self.variants[name]
            changes = {**settings_of(self.flags.get("set")), **settings}
            chosen = {"preset": preset, "seed": seed, "out": out, "set": changes}
            arguments = interface.bind({**self.flags, **chosen}, "[train-vla]")
            trainings.append((f"{name}, seed {seed}", arguments))
        return trainings


def _flags(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The arguments of train-vla that a study may give, of their types."""
    interface, of_table = read(train_vla), f"{where}: [train-vla]"
    interface.require_known(table, of_table, without=_DECIDED)
    by_name = {parameter.name: parameter for parameter in interface.parameters}
    flags = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name == "set":
            flags[name] = convert(value, list[str], f"{of_table}: `set`")
        else:
            flags[name] = by_name[name].converted(value, of_table)
    if not flags.get("episodes"):
        raise ConfigError(f"{of_table} names no `episodes`", remedy=_EXAMPLE)
    return flags


def _variants(variants: Any, where: str) -> Iterator[tuple[str, tuple[str, dict[str, Any]]]]:
    """A list of presets, or a table: name = preset, or name = {preset = ..., "train.lr" = ...}."""
    if isinstance(variants, list):
        variants = {name: name for name in variants}
    for name, value in variants.items():
        of_variant = f"{where}: `variants.{name}`"
        table = {"preset": value} if isinstance(value, str) else value
        table = convert(table, dict[str, Any], of_variant)
        preset = convert(table.pop("preset", "tiny"), str, f"{of_variant}.preset")
        yield name, (preset, flat(table))


def ablate(
    config: Annotated[Path, Positional("CONFIG.toml", "description of the study")],
) -> Ablation:
    """Train variants over several seeds and tabulate them.

    Variants are presets, with ablations after a plus, or tables of settings. The first one is the
    baseline, compared seed by seed. Rerun to resume.

    Example: depthtok ablate docs/ablation.toml
    """
    from depthtok.disk.locks import writing
    from vla.evaluation.ablation import tabulate

    study = Study.read(load_toml(config), str(config))
    trainings = study.trainings()
    with writing(study.out):
        for number, (title, arguments) in enumerate(trainings, 1):
            announce(f"[{number}/{len(trainings)}] {title}")
            announce(train_vla(**arguments))
        runs = {name: [study.run(name, seed) for seed in study.seeds] for name in study.variants}
        table = tabulate(runs)
        page = table.report(str(config)).write(study.out, "ablation")
    return Ablation(table, page)
