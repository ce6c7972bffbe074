"""run: all stages that a TOML file describes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from depthtok.api.annotate import annotate
from depthtok.api.convert import convert as convert_rlds
from depthtok.api.interface import read
from depthtok.api.parameters import Positional
from depthtok.api.tables import read_tables
from depthtok.api.tokenize import tokenize
from depthtok.api.train_vla import train_vla
from depthtok.api.train_vqvae import train_vqvae
from depthtok.config import RunOptions, convert, field_types, from_mapping, load_toml
from depthtok.errors import ConfigError
from depthtok.log import announce

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
COMMANDS: Mapping[str, Callable[..., Any]] = {
    "convert": convert_rlds,
    "annotate": annotate,
    "train-vqvae": train_vqvae,
    "tokenize": tokenize,
    "train-vla": train_vla,
}
TRAININGS = ("train-vqvae", "train-vla")
TABLES = (*COMMANDS, "how")
_KINDS = {"out": Path, "data": dict[str, Path], **dict.fromkeys(TABLES, dict[str, Any])}
_EXAMPLE = 'write out = "runs/first" and, below [data], libero = "path/to/the/rlds/directory"'


@dataclass(frozen=True)
class Step:
    """One command of a run: announced when it begins."""

    number: str  # "2/5", or a word
    title: str
    command: str
    arguments: Mapping[str, Any]
    inputs: tuple[Path, ...] = ()  # what the steps before it make

    def to_plan(self) -> Step:
        """The same step, which only says what it would do."""
        arguments = dict(self.arguments)
        if self.command in TRAININGS:
            arguments["plan"] = True
        else:
            arguments["options"] = replace(arguments["options"], plan=True)
        return replace(self, arguments=arguments)


@dataclass(frozen=True)
class Done:
    """A step and what its command returned: announced when it ends."""

    step: Step
    result: Any


@dataclass(frozen=True)
class WholeRun:
    """Where everything lies, what every command returned, and what is not whole: by data set."""

    out: Path
    steps: tuple[Done, ...]
    failed: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """1 where a stage could not make everything."""
        return max((getattr(done.result, "exit_code", 0) for done in self.steps), default=0)


@dataclass(frozen=True)
class RunPlan:
    """What a run would do: the plans of steps that have all they need, and what each of the others
    waits for, by the step's title."""

    out: Path
    steps: tuple[Done, ...]
    waiting: Mapping[str, Path]


@dataclass(frozen=True)
class Description:
    """A whole run: where it goes, its data sets by name, and the settings of every stage."""

    out: Path
    data: Mapping[str, Path]
    tables: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, content: Mapping[str, Any], where: str) -> Description:
        """From TOML values. Raises `ConfigError` for keys that are not known."""
        values = read_tables(content, _KINDS, ("out", "data"), where, _EXAMPLE)
        for name in values["data"]:
            if Path(name).name != name or name == ".." or "\0" in name:
                problem = f"{where}: [data] {name!r} cannot be the name of a folder"
                raise ConfigError(problem, remedy="give the data set a plain name")
        tables = {name: values.get(name, {}) for name in TABLES}
        for name, table in tables.items():
            for key in table.keys() & OF_RUNS.keys():
                table[key] = convert(table[key], OF_RUNS[key], f"{where}: [{name}] `{key}`")
        return cls(values["out"], values["data"], tables)

    def path(self, name: str, kind: str) -> Path:
        """Where a data set's store of a kind lies."""
        return self.out / name / kind


def run(
    config: Annotated[Path, Positional("CONFIG.toml", "description of the run")],
    plan: Annotated[bool, "say what the steps would do, as far as it is known, and exit"] = False,
) -> WholeRun | RunPlan:
    """Run or resume all stages that a TOML file describes.

    [data] names the data sets. A table per command holds its flags ([annotate] estimator = "vits"),
    [how] those that all stages share (workers = 8). Stages without a table run with their defaults;
    `skip = true` leaves one out.

    Example: depthtok run docs/example.toml
    """
    description = Description.read(load_toml(config), str(config))
    return planned(description) if plan else carry_out(description)


def carry_out(description: Description) -> WholeRun:
    """The stages in order. A stage with failed episodes lets the next ones go on."""
    from depthtok.disk.locks import writing
    from depthtok.progress import progress

    steps = prepared(description)
    done = []
    with (
        writing(description.out),
        progress(len(steps), "stages", f"run {description.out}", plain=False) as bar,
    ):
        for step in steps:
            done.append(taken(step, COMMANDS[step.command]))
            bar.advance()
    result = WholeRun(description.out, tuple(done))
    if result.exit_code:
        return WholeRun(description.out, tuple(done), tuple(not_whole(description)))
    return result


def planned(description: Description) -> RunPlan:
    """The plan of every step whose inputs are whole; nothing is made."""
    done, waiting = [], {}
    for step in prepared(description):
        lacking = [path for path in step.inputs if not _whole(path)]
        if lacking:
            waiting[f"[{step.number}] {step.title}"] = lacking[0]
        else:
            done.append(taken(step.to_plan(), COMMANDS[step.command]))
    return RunPlan(description.out, tuple(done), waiting)


def _whole(path: Path) -> bool:
    """Whether a store has all of its parts, or a codebook is trained."""
    from depthtok.stores import codebook
    from depthtok.stores.spec import is_store
    from depthtok.stores.store import Store

    return not Store(path).missing() if is_store(path) else (path / codebook.META).is_file()


def taken(step: Step, command: Callable[..., Any]) -> Done:
    """Carries one step out."""
    announce(step)
    done = Done(step, command(**step.arguments))
    announce(done)
    return done


def not_whole(description: Description) -> list[str]:
    """What the stores of the data sets lack, by stage."""
    from depthtok.stores.failures import in_words, left_out
    from depthtok.stores.lineage import open_store
    from depthtok.stores.spec import is_store

    lines = []
    for name in description.data:
        paths = [description.path(name, kind) for kind in ("codes", "depth", "episodes")]
        last = next((path for path in paths if is_store(path)), None)  # knows of all before
        if last and (words := in_words(left_out(open_store(last)))):
            lines.append(f"{name}: {words}")
    return lines


def prepared(description: Description) -> list[Step]:
    """Every step with its arguments, all settings checked: before hours of work, not after them.

    Raises `ConfigError`, also for a tokenizer that is not known.
    """
    from vla.weights.pretrained import resolved

    how = _named(description.tables["how"])
    _refuse_alone(how, "[how]", "annotate")
    from_mapping(RunOptions, how, "[how]")
    calls = list(_calls(description))
    steps = [
        Step(
            f"{number}/{len(calls)}",
            title,
            command,
            _arguments(description, command, paths),
            tuple(_made_before(description, paths)),
        )
        for number, (title, command, paths) in enumerate(calls, 1)
    ]
    for step in steps:
        if step.command == "train-vla":
            resume = step.arguments["options"].resume
            run = description.out / "policy" if resume else None
            resolved(step.arguments["settings"], step.arguments["weights"], run)
    settings = {step.command: step.arguments["settings"] for step in steps}
    if "annotate" in settings and "train-vqvae" in settings:
        _require_same_size(settings["annotate"].size, settings["train-vqvae"].network.size)
    return steps


def _require_same_size(depth_px: int, tokeniser_px: int) -> None:
    """Depth must be as large as the tokeniser takes it."""
    if depth_px not in (0, tokeniser_px):  # 0: that of the frames, not known yet
        raise ConfigError(
            f"[annotate] makes depth of {depth_px} px, [train-vqvae] takes {tokeniser_px} px",
            remedy=f"leave [annotate] size out, or write {tokeniser_px} there; [train-vqvae] takes "
            "16 times a power of two (128, 256, 512)",
        )


def _made_before(
    description: Description, paths: Mapping[str, Path | list[Path]]
) -> Iterator[Path]:
    """Those of a step's paths that other steps make."""
    for name, path in paths.items():
        for one in path if isinstance(path, list) else [path]:
            brought = name == "out" or one in description.data.values()
            if not brought and one.is_relative_to(description.out):
                yield one


def _calls(description: Description) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Title, command and paths of every step that is not skipped."""
    tables, path_of = description.tables, description.path
    wanted = {name for name in COMMANDS if not tables[name].get("skip", False)}
    trained_book = description.out / "codebook"
    book = Path(tables["tokenize"].get("codebook", trained_book))
    data = description.data
    for name, source in data.items():
        episodes, depth = path_of(name, "episodes"), path_of(name, "depth")
        if "convert" in wanted:
            yield f"convert {name}", "convert", {"source": source, "out": episodes}
        if "annotate" in wanted:
            yield f"annotate {name}", "annotate", {"source": episodes, "out": depth}
    if "train-vqvae" in wanted:
        depths = [path_of(name, "depth") for name in data]
        yield "train-vqvae", "train-vqvae", {"depth": depths, "out": trained_book}
    for name in data if "tokenize" in wanted else ():
        title = f"tokenize {name}" + (f", with {book}" if book != trained_book else "")
        paths = {"depth": path_of(name, "depth"), "codebook": book, "out": path_of(name, "codes")}
        yield title, "tokenize", paths
    if "train-vla" in wanted:
        stores = {kind: [path_of(name, kind) for name in data] for kind in ("episodes", "codes")}
        yield "train-vla", "train-vla", {**stores, "out": description.out / "policy"}


def _named(table: Mapping[str, Any]) -> dict[str, Any]:
    """A table by the names of Python; keys of the run itself are left out."""
    return {key.replace("-", "_"): value for key, value in table.items() if key != "skip"}


def _arguments(description: Description, command: str, paths: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a command: its table, the options that all share, and the paths."""
    interface = read(COMMANDS[command])
    names = {parameter.name for parameter in interface.parameters}
    table, how = _named(description.tables[command]), _named(description.tables["how"])
    heading = f"[{command}]"
    _refuse_alone(table, heading, command)
    if command == "tokenize":
        table.pop("codebook", None)
    if command in TRAININGS:
        how = {key: value for key, value in how.items() if key == "device"}
    else:
        shared = {key: table.pop(key) for key in [*table] if key in field_types(RunOptions)}
        how |= shared
    interface.require_known(table, heading, without=(*paths, "then_tokenize", *ALONE))
    how = {key: value for key, value in how.items() if key in names}
    try:
        return interface.bind({**how, **table, **paths}, heading)
    except ConfigError as error:
        if error.problem.startswith(heading):
            raise
        raise ConfigError(f"{heading}: {error.problem}", remedy=error.remedy) from None


def _refuse_alone(table: Mapping[str, Any], where: str, command: str) -> None:
    for key in ALONE:
        if key in table:
            raise ConfigError(
                f"{where} `{key}` is of single commands: a run makes all of every stage",
                remedy="leave it out, or type the commands one by one: "
                f"`depthtok {command} --help`",
            )
