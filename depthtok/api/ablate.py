"""Named variants over seeds, trained or resumed, and one table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from depthtok.api.interface import read
from depthtok.api.parameters import Positional
from depthtok.api.train_vla import train_vla
from depthtok.config import convert, load_toml
from depthtok.errors import ConfigError, did_you_mean
from depthtok.log import announce

if TYPE_CHECKING:
    from vla.evaluation.ablation import Table

_EXAMPLE = """write, for example
  out = "runs/ablation"
  seeds = [0, 1, 2]
  variants = ["tiny", "tiny+causal", "tiny+no-depth-loss"]
  [train-vla]
  episodes = ["runs/episodes"]
  codes = ["runs/codes"]
  steps = 500"""

_KINDS = {
    "out": Path,
    "seeds": tuple[int, ...],
    "variants": list[str] | dict[str, Any],
    "train-vla": dict[str, Any],
}


@dataclass(frozen=True)
class Ablation:
    """The figures of every variant over its seeds, and the page that shows them."""

    table: Table
    page: Path


@dataclass(frozen=True)
class Study:
    """What is compared: variants by name, each a preset (with ablations) and settings."""

    out: Path
    seeds: tuple[int, ...]
    variants: Mapping[str, tuple[str, tuple[str, ...]]]
    flags: Mapping[str, Any]  # of train-vla, for all

    @classmethod
    def read(cls, content: Mapping[str, Any], where: str) -> Study:
        """From TOML values. Raises `ConfigError` for what is unknown, missing or mistyped."""
        for key in content:
            if key not in _KINDS:
                raise ConfigError(
                    f"{where}: there is no {key!r}", remedy=did_you_mean(key, [*_KINDS])
                )
        given = {
            key: convert(value, _KINDS[key], f"{where}: `{key}`")
            for key, value in {"seeds": (0, 1, 2), **content}.items()
        }
        for key in _KINDS:
            if not given.get(key):
                raise ConfigError(f"{where}: `{key}` is not given", remedy=_EXAMPLE)
        variants = dict(_variants(given["variants"], where))
        return cls(given["out"], given["seeds"], variants, _flags(given["train-vla"], where))

    def runs(self) -> Iterator[tuple[str, int, Path]]:
        """Variant, seed and place of every training."""
        for seed in self.seeds:
            for name in self.variants:
                yield name, seed, self.out / name / f"seed-{seed}"


def _flags(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The arguments of train-vla that a study may give, of their types."""
    known = {
        parameter.name: parameter
        for parameter in read(train_vla).parameters
        if parameter.name not in ("out", "seed", "preset", "resume")
    }
    flags = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name == "set":
            flags[name] = convert(value, list[str], f"{where}: [train-vla]: `set`")
        elif name in known:
            flags[name] = known[name].converted(value, f"{where}: [train-vla]")
        else:
            choices = [choice.replace("_", "-") for choice in (*known, "set")]
            raise ConfigError(
                f"{where}: [train-vla]: there is no {key!r}",
                remedy=did_you_mean(key.replace("_", "-"), choices),
            )
    if not flags.get("episodes"):
        raise ConfigError(f"{where}: [train-vla] names no `episodes`", remedy=_EXAMPLE)
    return flags


def _variants(variants: Any, where: str) -> Iterator[tuple[str, tuple[str, tuple[str, ...]]]]:
    """A list of presets, or a table: name = preset, or name = {preset = ..., "train.lr" = ...}."""
    if isinstance(variants, list):
        variants = {name: name for name in variants}
    for name, value in variants.items():
        place = f"{where}: `variants.{name}`"
        table = {"preset": value} if isinstance(value, str) else value
        table = convert(table, dict[str, Any], place)
        preset = convert(table.pop("preset", "tiny"), str, f"{place}.preset")
        yield name, (preset, tuple(f"{key}={_toml(each)}" for key, each in table.items()))


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


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
    with writing(study.out):
        runs = list(study.runs())
        for number, (name, seed, out) in enumerate(runs, 1):
            announce(f"[{number}/{len(runs)}] {name}, seed {seed}")
            preset, settings = study.variants[name]
            chosen = {"preset": preset, "seed": seed, "out": out}
            chosen["set"] = [*study.flags.get("set", ()), *settings]
            arguments = read(train_vla).bind({**study.flags, **chosen}, "[train-vla]")
            announce(train_vla(**arguments))
        table = tabulate({
            name: [study.out / name / f"seed-{seed}" for seed in study.seeds]
            for name in study.variants
        })  # fmt: skip
        page = table.report(str(config)).write(study.out, "ablation")
    return Ablation(table, page)
