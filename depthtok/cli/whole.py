"""run and demo: the whole path from RLDS to a policy, resumable as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from depthtok.cli import depth, stages
from depthtok.cli import train_vla as policy
from depthtok.cli import train_vqvae as train
from depthtok.cli.options import arguments, command
from depthtok.config import RunOptions, convert, field_types, from_mapping, load_toml
from depthtok.errors import ConfigError, did_you_mean
from depthtok.log import say, unsuggesting
from pipelines.config import AnnotateConfig, ConvertConfig, TokenizeConfig

ALONE = ("plan", "limit", "shard", "json", "overwrite")
"""Options that a whole run has no use for."""
OF_RUNS = {
    "skip": bool,
    "codebook": str,
    "preset": str,
    "set": list[str],
    "weights": str,
    "device": str,
}
"""Keys that the run reads itself, and their types."""
TABLES = ("convert", "annotate", "train-vqvae", "tokenize", "train-vla", "how")


def register(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    for function in (run, demo):
        command(app)(function)


@dataclass(frozen=True)
class Plan:
    """A whole run: where it goes, its data sets by name, and the settings of every stage."""

    out: Path
    data: Mapping[str, Path]
    tables: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, content: Mapping[str, Any], where: str) -> Plan:
        """From TOML values. Raises `ConfigError` for keys that are not known."""
        known = ["out", "data", *TABLES]
        for key in content:
            if key not in known:
                raise ConfigError(f"{where}: there is no {key!r}", remedy=did_you_mean(key, known))
        for key in ("out", "data"):
            if not content.get(key):
                raise ConfigError(f"{where}: `{key}` is not given", remedy=_EXAMPLE)
        data = convert(content["data"], dict[str, Path], f"{where}: [data]")
        for name in data:
            if Path(name).name != name or "\0" in name:
                problem = f"{where}: [data] {name!r} cannot be the name of a folder"
                raise ConfigError(problem, remedy="give the data set a plain name")
        tables = {
            name: convert(content.get(name, {}), dict[str, Any], f"{where}: [{name}]")
            for name in TABLES
        }
        for name, table in tables.items():
            for key in table.keys() & OF_RUNS.keys():
                table[key] = convert(table[key], OF_RUNS[key], f"{where}: [{name}] `{key}`")
        return cls(convert(content["out"], Path, f"{where}: `out`"), data, tables)

    def place(self, name: str, what: str) -> Path:
        """Where a data set's store lies."""
        return self.out / name / what


_EXAMPLE = 'write out = "runs/first" and, below [data], libero = "path/to/the/rlds/directory"'


def run(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="description of the run")],
) -> None:
    """Run or resume all stages that a TOML file describes.

    [data] names the RLDS directories. A table per command holds its flags ([annotate] estimator =
    "vits"), [how] those that all stages share (workers = 8). Stages without a table run with their
    defaults; `skip = true` leaves one out.

    Example: depthtok run docs/example.toml
    """
    carry_out(Plan.read(load_toml(config), str(config)))


def demo(
    out: Annotated[Path, typer.Option("--out", help="output directory")] = Path("demo"),
) -> None:
    """Show the whole path, RLDS to policy, on data that ships.

    Takes a few minutes and no downloads: a small simulated data set with ground-truth depth comes
    with the package.
    """
    from importlib.resources import files

    from depthtok.cli.report import demo_report

    package = files("depthtok")
    content = load_toml(Path(str(package / "sample" / "demo.toml")))
    content["out"] = str(out)
    content["data"] = {"sample": str(package / "sample" / "libero_sample")}
    content["tokenize"] = {**content["tokenize"], "codebook": str(files("vqvae") / "demo")}
    plan = Plan.read(content, "the demo's settings")
    carry_out(plan)
    estimate(plan)
    page = demo_report(plan.out, plan.place("sample", ""))
    say("", "What was made:", *_summary(plan), *_failed(plan), f"look:  open {page} in a browser")


def estimate(plan: Plan) -> None:
    """The demo's extra step: depth as the shipped demo network sees it, held against the truth."""
    say("", "[extra] estimate depth from RGB alone, and compare it with the ground truth")
    place = plan.place("sample", "")
    options = RunOptions(device=plan.tables["how"].get("device", "auto"))
    with unsuggesting():
        stages.annotate(
            source=place / "episodes", out=place / "estimated-depth",
            settings=AnnotateConfig(estimator="tiny"), options=options,
        )  # fmt: skip
        cameras = depth.held_against(
            estimated=place / "estimated-depth", truth=place / "depth", out=place / "audit"
        )
    if any(each.wrong for each in cameras):  # weak it may be: nothing below is made from it
        raise typer.Exit(1)
    if any(each.weak for each in cameras):
        say("so weak is a tiny network: `depthtok audit-depth` would end with exit code 1")


def _summary(plan: Plan) -> list[str]:
    told = {
        "sample/episodes": "actions, states, instructions, and where each image lies",
        "sample/depth": "depth in metres for every frame of both cameras",
        "sample/estimated-depth": "depth from RGB, by a tiny demo network (for real data: vits)",
        "sample/audit": "how far that is from the ground truth: open its report.html",
        "codebook": "256 depth codes, trained for a minute (the codes below use the shipped one)",
        "sample/codes": "a 16x16 grid of codes for every frame",
        "policy": "a tiny QDepth-VLA, its log and checkpoints",
    }
    width = max(map(len, told))
    return [f"  {plan.out / name!s:<{width + len(str(plan.out)) + 1}}  {words}"
            for name, words in told.items()]  # fmt: skip


def _failed(plan: Plan) -> list[str]:
    """What the stores of the data sets lack, by stage."""
    from depthtok.stores.failures import in_words, left_out
    from depthtok.stores.lineage import open_store
    from depthtok.stores.store import is_store

    lines = []
    for name in plan.data:
        places = [plan.place(name, kind) for kind in ("codes", "depth", "episodes")]
        last = next((place for place in places if is_store(place)), None)  # knows of all before
        if last and (words := in_words(left_out(open_store(last)))):
            lines.append(f"{name}: {words}")
    return lines


def carry_out(plan: Plan) -> None:
    """The stages in order. A stage with failed episodes lets the next ones go on."""
    from depthtok.disk.locks import writing

    todo = prepared(plan)
    failed = False
    with writing(plan.out), unsuggesting():
        for number, (title, do) in enumerate(todo, 1):
            say("", f"[{number}/{len(todo)}] {title}")
            try:
                do()
            except typer.Exit as stop:
                failed |= bool(stop.exit_code)
    if failed:
        say("", *_failed(plan))
        raise typer.Exit(1)


def prepared(plan: Plan) -> list[tuple[str, Callable[[], None]]]:
    """Title and call of every stage, all settings checked."""
    todo = list(_stages(plan))
    _check_settings(plan)
    return todo


def _stages(plan: Plan):
    """Title and call of every stage that is not skipped."""
    tables = {name: dict(table) for name, table in plan.tables.items()}
    wanted = {name for name in TABLES if not tables[name].pop("skip", False)}
    book = Path(tables["tokenize"].pop("codebook", plan.out / "codebook"))
    depths = [plan.place(name, "depth") for name in plan.data]
    for name, source in plan.data.items():
        episodes, depth_store = plan.place(name, "episodes"), plan.place(name, "depth")
        if "convert" in wanted:
            yield (
                f"convert {name}",
                _stage(
                    stages.convert, ConvertConfig, tables, "convert", source=source, out=episodes
                ),
            )
        if "annotate" in wanted:
            yield (
                f"annotate {name}",
                _stage(
                    stages.annotate,
                    AnnotateConfig,
                    tables,
                    "annotate",
                    source=episodes,
                    out=depth_store,
                ),
            )
    if "train-vqvae" in wanted:
        yield (
            "train-vqvae",
            _training(
                train.train_vqvae, tables, "train-vqvae", depth=depths, out=plan.out / "codebook"
            ),
        )
    for name in plan.data if "tokenize" in wanted else ():
        with_other = f", with {book}" if book != plan.out / "codebook" else ""
        yield f"tokenize {name}{with_other}", _stage(
            stages.tokenize, TokenizeConfig, tables, "tokenize",
            depth=plan.place(name, "depth"), codebook=book, out=plan.place(name, "codes"),
        )  # fmt: skip
    if "train-vla" in wanted:
        yield "train-vla", _training(
            policy.train_vla, tables, "train-vla", out=plan.out / "policy",
            episodes=[plan.place(name, "episodes") for name in plan.data],
            codes=[plan.place(name, "codes") for name in plan.data],
        )  # fmt: skip


def _stage(
    function: Callable, settings: type, tables: Mapping, name: str, **paths: Any
) -> Callable[[], None]:
    """A stage's command with its table of settings, the shared options and its own flags."""
    table, how = ({key.replace("-", "_"): value for key, value in tables[each].items()}
                  for each in (name, "how"))  # fmt: skip
    shared, own = field_types(RunOptions), field_types(settings)
    how |= {key: table.pop(key) for key in [*table] if key in shared}
    for key in ALONE:
        if key in how:
            raise ConfigError(
                f"[how] `{key}` is of single commands: a run makes all of every stage",
                remedy=f"leave it out, or type the commands one by one: `depthtok {name} --help`",
            )
    config = from_mapping(settings, {key: table.pop(key) for key in [*table] if key in own},
                          f"[{name}]")  # fmt: skip
    options = from_mapping(RunOptions, how, "[how]")
    hidden = [*paths, "settings", "options", "then_tokenize"]
    more = arguments(function, table, f"[{name}]:", hidden=hidden, known=own)
    return lambda: function(**paths, settings=config, options=options, **more)


def _training(function: Callable, tables: Mapping, name: str, **paths: Any) -> Callable[[], None]:
    """A training's command with its table as arguments, whose settings are known to exist."""
    given = arguments(function, tables[name], f"[{name}]:", hidden=[*paths, "json"])
    if "device" in tables["how"]:
        given.setdefault("device", tables["how"]["device"])
    return lambda: function(**paths, **given)


def _check_settings(plan: Plan) -> None:
    """Raises `ConfigError` for settings of the trainings that do not exist, and for a tokenizer
    that is not known: before hours of annotating, not after them."""
    from pipelines.train_vla.samples import parse_settings
    from vla.named_configs import load
    from vla.weights.pretrained import resolved
    from vqvae.config import TokeniserConfig

    TokeniserConfig.preset(plan.tables["train-vqvae"].get("preset", "default"))
    vla = plan.tables["train-vla"]
    config = load(vla.get("preset", "tiny"), parse_settings(vla.get("set", [])))
    run = plan.out / "policy" if vla.get("resume", True) else None
    resolved(config, vla.get("weights"), run)
