"""ablate: named variants over seeds, trained or resumed, and one table."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from depthtok.cli import train_vla as policy
from depthtok.cli.flags import Json
from depthtok.cli.options import arguments, command
from depthtok.config import convert, load_toml
from depthtok.errors import ConfigError, did_you_mean
from depthtok.log import result, say, unsuggesting

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


def register(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    command(app)(ablate)


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


def _flags(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The arguments of train-vla that a study may give, of their types."""
    hidden = ("out", "seed", "preset", "json", "resume")
    flags = arguments(policy.train_vla, given, f"{where}: [train-vla]:", hidden=hidden)
    if not flags.get("episodes"):
        raise ConfigError(f"{where}: [train-vla] names no `episodes`", remedy=_EXAMPLE)
    return flags


def _variants(given: Any, where: str) -> Iterator[tuple[str, tuple[str, tuple[str, ...]]]]:
    """A list of presets, or a table: name = preset, or name = {preset = ..., "train.lr" = ...}."""
    if isinstance(given, list):
        given = {name: name for name in given}
    for name, value in given.items():
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
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="description of the study")],
    json: Json = False,
) -> None:
    """Train variants over several seeds and tabulate them.

    Variants are presets, with ablations after a plus, or tables of settings. The first one is the
    baseline, compared seed by seed. Rerun to resume.

    Example: depthtok ablate docs/ablation.toml
    """
    from depthtok.disk.locks import writing

    study = Study.read(load_toml(config), str(config))
    with writing(study.out):
        _carry_out(study, str(config), json=json)


def _carry_out(study: Study, title: str, *, json: bool) -> None:
    from vla.evaluation.ablation import tabulate

    todo = list(study.runs())
    for number, (name, seed, place) in enumerate(todo, 1):
        say("", f"[{number}/{len(todo)}] {name}, seed {seed}", json=json)
        preset, settings = study.variants[name]
        flags = dict(study.flags)
        flags["setting"] = [*flags.get("setting", ()), *settings]
        told = redirect_stdout(sys.stderr) if json else nullcontext()
        with unsuggesting(), told:
            policy.train_vla(**flags, preset=preset, seed=seed, out=place)
    table = tabulate({name: [study.out / name / f"seed-{seed}" for seed in study.seeds]
                      for name in study.variants})  # fmt: skip
    page = table.report(title).write(study.out, "ablation")
    say("", *table.words(), f"{page}: open it in a browser", json=json)
    if json:
        result(table.to_json())
