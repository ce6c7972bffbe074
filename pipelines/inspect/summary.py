"""What is this directory? A summary of any data set, store, codebook, training run, evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from depthtok.config import flat
from depthtok.disk.regular import require_no_special
from depthtok.errors import SchemaError, SourceError, as_written
from depthtok.format import human_bytes, human_number
from depthtok.log import typed
from depthtok.sources.draft import describe, draft
from depthtok.sources.features import read_json
from depthtok.sources.rlds import RldsDirectory, is_rlds
from depthtok.sources.sample import sample
from depthtok.sources.schema import Schema
from depthtok.stores import codebook, instructions
from depthtok.stores.codes import CodeStore
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.lineage import open_store, outdated
from depthtok.stores.spec import ROOT, is_store
from depthtok.stores.store import Store
from pipelines.inspect import column_tables, film_table
from pipelines.train_vla import checks as data_checks
from vla.training.checkpoint import State

_DESCRIBED = {
    "store": f"parts/{ROOT}", "codebook": codebook.META, "evaluation": "eval.json",
    "rlds": "features.json",
}  # fmt: skip
RUN, LOG, EVALUATION = "config.json", "metrics.jsonl", "eval.json"
REPORT = "report.json"  # beside the page of an audit, an ablation, a comparison


@dataclass
class Summary:
    """What is said of a directory: facts in order, tables, and free text for the end."""

    title: str
    facts: dict[str, object] = field(default_factory=dict)
    tables: dict[str, tuple[tuple[str, ...], list[tuple]]] = field(default_factory=dict)
    text: str = ""

    def lines(self) -> list[str]:
        """For a terminal."""
        width = max((len(name) for name in self.facts), default=0)
        lines = [self.title, *(f"  {name:<{width}}  {value}" for name, value in self.facts.items())]
        for title, (columns, rows) in self.tables.items():
            lines += ["", title, *_aligned([columns, *rows])]
        return [*lines, "", self.text] if self.text else lines


def _aligned(rows: list[tuple]) -> list[str]:
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return [
        "  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
        for row in texts
    ]


def inspect(path: Path) -> Summary:
    """A summary of what lies at `path`. Raises `SourceError` where it is nothing we know."""
    kind = kind_of(path)
    if kind is None:
        if (path / REPORT).is_file():
            return _report(path)
        if shown := film_table.summary(path, inside=bool(_inside(path))):
            return Summary(*shown)
        raise not_known(path)
    with as_described(path, kind):
        return _SUMMARIES[kind](path)


@contextmanager
def as_described(path: Path, kind: str) -> Iterator[None]:
    """Raises `CorruptPart`, which names the file, where the facts in the description of what lies
    at `path` are none that depthtok writes. Its digest fits: somebody made it so."""
    file = path / _DESCRIBED.get(kind, "")
    if kind == "run":
        from vla.training import checkpoint

        steps = checkpoint.steps(path)
        file = steps[-1] / checkpoint.STATE if steps else path / RUN
    with as_written(file, "make it again, or copy it again from where it was made"):
        yield


def kind_of(path: Path) -> str | None:
    """`store`, `codebook`, `run`, `evaluation` or `rlds`; None for anything else."""
    require_no_special(path)
    if is_store(path):
        return "store"
    if (path / codebook.META).is_file():
        return "codebook"
    if is_run(path):
        return "run"
    if (path / EVALUATION).is_file():
        return "evaluation"
    return "rlds" if is_rlds(path) else None


def is_run(path: Path) -> bool:
    """Whether a training ran in this directory."""
    logged = any((path / name).is_file() for name in (RUN, LOG))
    return logged and (path / "checkpoints").is_dir()


def _inside(path: Path) -> list[str]:
    """Directories in this one, and in those in it, that are something we know."""
    children = sorted(path.glob("*")) + sorted(path.glob("*/*")) if path.is_dir() else []
    return [
        str(each)
        for each in children
        if each.is_dir() and kind_of(each) and not is_store(each.parent)
    ]


def not_known(path: Path) -> SourceError:
    """What to raise for a directory that is nothing we know. Names what is known inside it."""
    inside = _inside(path)
    run = next((folder for folder in path.parents if is_run(folder)), None)
    if run and path.exists():
        return SourceError(f"{path} is a part of a run", remedy=f"name the run: {run}")
    return SourceError(
        f"{path} is not a store, codebook, training run, evaluation or RLDS data set"
        if path.exists()
        else f"there is no {path}",
        remedy=f"name one of the directories in it: {', '.join(inside[:8])}"
        if inside
        else "name a directory with dataset_info.json, or one that depthtok wrote",
    )


def inspect_mixture(stores: list[EpisodeStore]) -> Summary:
    """Data sets drawn so that every step is equally likely: what they differ in, and statistics of
    the columns that mean the same in all."""
    summary = Summary(f"Mixture of {len(stores)} data sets, every step equally likely")
    episodes, steps = sum(map(len, stores)), sum(store.steps for store in stores)
    summary.facts.update({"episodes": f"{episodes:,}", "steps": f"{steps:,}"})
    summary.tables.update(column_tables.of_mixture(stores))
    return summary


def _rlds(rlds: RldsDirectory) -> Summary:
    summary = Summary(f"RLDS data set {rlds.name} {rlds.version} in {rlds.path}")
    for split in rlds.splits.values():
        absent = [shard.path.name for shard in split.shards if shard.state == "absent"]
        summary.facts[f"split {split.name}"] = (
            f"{split.episodes:,} episodes in {len(split.shards):,} shards, "
            f"{human_bytes(split.num_bytes)}"
            + (f"; {len(absent):,} are not there (first: {absent[0]})" if absent else "")
        )
    if rlds.notes:
        summary.facts["files"] = "; ".join(rlds.notes)
    columns = ("feature", "kind", "dtype", "shape", "per")
    summary.tables["Features"] = (columns, describe(rlds.features))
    schema = Schema.find(rlds.name)
    if schema is None:
        summary.facts["schema"] = "none is shipped for this name; a draft is below"
        summary.text = _draft(rlds)
        return summary
    try:
        fitted = schema.fitted(rlds.features, rlds.name)
        summary.facts["schema"] = f"{schema.name} ({schema.status}), fits"
        summary.facts["cameras"] = ", ".join(
            camera.name + (" (with depth)" if camera.depth_key else "") for camera in fitted.cameras
        )
        summary.facts["rate"] = f"{fitted.fps:g} Hz" if fitted.fps else "not known"
        summary.facts["action"] = ", ".join(fitted.action_dims)
        summary.facts["proprio"] = ", ".join(fitted.proprio_dims) or "none"
        if fitted.unknown:
            summary.facts["not stated"] = "; ".join(fitted.unknown)
    except SchemaError as error:
        summary.facts["schema"] = f"{schema.name} does not fit: {error.problem}"
        summary.text = _draft(rlds)
    return summary


def schema_draft(path: Path) -> str:
    """A schema draft of an RLDS data set, as TOML. Raises `SchemaError` where none can be made."""
    rlds = RldsDirectory.open(path)
    return draft(rlds.features, rlds.name, sample(rlds))


def _draft(rlds: RldsDirectory) -> str:
    try:
        text = draft(rlds.features, rlds.name, sample(rlds))
    except SchemaError as error:
        return str(error)
    return (
        f"# A draft; `{typed('inspect', rlds.path, '--draft')} > my.toml` saves it. Check it, then "
        f"convert with --schema my.toml.\n{text}"
    )


def _store(store: Store) -> Summary:
    missing, failures = store.missing(), store.failures()
    parts = list(store.parts())
    summary = Summary(f"Store of {store.spec.type} in {store.path}")
    summary.facts.update({
        "made by": f"depthtok {store.spec.stage}",
        "data set": store.about.get("dataset", "-"),
        "fingerprint": store.fingerprint[:16],
        "parts": f"{len(parts)}" + (f", {len(missing)} missing" if missing else ", complete"),
        "episodes": f"{sum(len(part.frames) for part in parts):,}",
        "steps": f"{sum(int(part.frames.sum()) for part in parts):,}",
        "size": human_bytes(store.files_bytes()),
        "failed": len(failures),
    })  # fmt: skip
    if isinstance(store, EpisodeStore) and store.left_out:
        reasons = (f"{count:,} ({reason})" for reason, count in store.left_out.items())
        summary.facts["left out by the schema"] = ", ".join(reasons)
    summary.facts.update(_typed(store))
    summary.facts.update(_absent(store))
    if lines := outdated(store):
        summary.facts["out of date"] = "; ".join(lines)
    if isinstance(store, EpisodeStore) and (found := store.stored_statistics()):
        summary.tables.update(column_tables.of_store(store, found))
    if failures:
        rows = [(str(f.key), f.stage, f.reason) for f in failures[:50]]
        summary.tables["Failed episodes"] = (("episode", "stage", "reason"), rows)
    return summary


def _weights(store: DepthStore) -> dict[str, str]:
    """Which network the weights are of and how that is known, where a network made the depth."""
    if not store.estimator.get("weights"):
        return {}
    return {"weights": store.spec.place.get("weights", "not recorded: made before that was kept")}


def _absent(store: Store) -> dict[str, object]:
    """What the store knows of cameras that episodes do not have."""
    found = ", ".join(
        f"{name} in {count} episodes" for name, count in store.absent_counts().items()
    )
    if not store.knows_absent:
        found = f"{found}; " * bool(found) + "not known"
    return {"absent": found} if found else {}


def _typed(store: Store) -> dict[str, object]:
    """The facts that only one type of store has."""
    if isinstance(store, EpisodeStore):
        return {
            "cameras": ", ".join(
                f"{c.name} {c.height}x{c.width}" + (" with depth" if c.has_depth else "")
                for c in store.cameras.values()
            ),
            "action": f"{store.action_dim}: {', '.join(store.action_names)}",
            "proprio": f"{store.proprio_dim}: {', '.join(store.proprio_names) or 'none'}",
            "rate": f"{store.fps:g} Hz" if store.fps else "not known",
            "gripper": store.meaning.gripper,
            "not known": ", ".join(store.meaning.unknown) or "nothing",
            "instructions": instructions.read(store).line(),
            "images in": store.source_root,
        }
    if isinstance(store, DepthStore):
        return {
            "kind": store.kind.value,
            "estimator": store.estimator["name"],
            **_weights(store),
            "cameras": ", ".join(store.cameras),
            "pixels": f"{store.size[0]}x{store.size[1]}, stored as {store.encoding.value} "
            f"(error: {store.encoding.error})",
        }
    if not isinstance(store, CodeStore):
        return {}
    return {
        "codebook": store.codebook[:16],
        "grid": f"{store.grid[0]}x{store.grid[1]} of {store.about['codes']} codes",
        "cameras": ", ".join(store.cameras),
    }


def _codebook(path: Path) -> Summary:
    book = codebook.Codebook.load(path)
    facts: dict[str, object] = {
        "codes": f"{book.vectors.shape[0]} of {book.vectors.shape[1]} dimensions",
        "grid": f"{book.grid[0]}x{book.grid[1]} for {book.size[0]}x{book.size[1]} px",
        "fingerprint": book.fingerprint[:16],
        "demo": "yes: it shows the pipeline, do not train policies on it" if book.demo else "no",
    }
    summary = Summary(f"Codebook in {path}", facts)
    if book.quality:
        summary.facts.update(_quality(book.quality))
    return summary


def _quality(quality: Mapping[str, Any]) -> dict[str, object]:
    """The figures of a quality report that decide."""
    from vqvae.quality.gate import judge

    failures = judge(quality)
    held = "held-out" if quality.get("held_out") else "training"
    found: dict[str, object] = {
        "quality gate": f"missed: {'; '.join(failures)}" if failures else "passed",
        "measured on": f"{quality['frames']:,} frames of {quality['episodes']} {held} episodes",
    }
    for label, table, name in _FIGURES:
        if name in quality.get(table, {}):
            found[label] = human_number(quality[table][name])
    return found


_FIGURES = (
    ("L1, share of the range", "disparity", "l1"),
    ("edge F1", "disparity", "edge_f1"),
    ("AbsRel", "metres", "abs_rel"),
    ("depth within 5 %", "metres", "delta_1_05"),
    ("codes used", "codes", "used"),
    ("perplexity", "codes", "perplexity"),
    ("far static codes that flip", "flips", "far"),
)


def _run(path: Path) -> Summary:
    from vla.config import Config
    from vla.training import checkpoint
    from vla.training.runlog import METRICS
    from vla.training.soundness import read_log, settings

    metrics = read_log(path, METRICS)
    steps = checkpoint.steps(path)
    summary = Summary(f"Training run in {path}")
    summary.facts["checkpoints"] = ", ".join(step.name for step in steps) or "none yet"
    if steps:
        state = checkpoint.read_state(steps[-1])
        summary.facts["data"] = ", ".join(
            f"{name} ({size:,} samples)" for name, _, _, size, *_ in state.data or ()
        )
        summary.facts["codebook"] = state.codebook[:16] or "none"
        summary.facts |= _meant(state)
        summary.facts["instructions"] = _prompts((state.notes or {}).get("instructions"))
    if metrics:
        last = {name: value for line in metrics for name, value in line.items()}
        rows = [(name, human_number(value)) for name, value in last.items()]
        summary.tables["Newest figures"] = (("figure", "value"), rows)
    usual, given = flat(Config().to_json()), flat(settings(path).to_json())
    changed = [(name, value) for name, value in given.items() if value != usual.get(name)]
    summary.tables["Settings that are not the defaults"] = (("setting", "value"), changed)
    return summary


def _prompts(noted: Mapping[str, Any] | None) -> str:
    """What a run noted of its instructions before it began."""
    from vla.data.prompts import Prompts

    if noted is None:
        return "not known: an older depthtok did not look"
    return Prompts.from_json(noted).line()


def _meant(state: State) -> dict[str, object]:
    """What the numbers of a run's data sets mean, and which episodes were held out."""
    found: dict[str, object] = {}
    for name, meaning in state.meanings.items():
        for side in ("action", "proprio"):
            found[f"{side} of {name}"] = ", ".join(map(str, getattr(meaning, side))) or "none"
        rate = "rate not known" if meaning.fps is None else f"{meaning.fps:g} Hz"
        found[f"gripper of {name}"] = f"{meaning.gripper}; {rate}"
    found = found or {"meaning": "not known: made before runs kept what their numbers mean"}
    if held := data_checks.words((state.notes or {}).get("held_out")):
        found["held out"] = held[0].removeprefix("held out: ")
    return found


def _evaluation(path: Path) -> Summary:
    from pipelines.evaluate import verdict
    from pipelines.evaluate.trials import Evaluation

    evaluation = Evaluation.open(path)
    found = verdict.results(evaluation)
    summary = Summary(f"Evaluation in {path}")
    summary.facts.update({
        "policy": evaluation.card["policy"],
        "tasks": verdict.measured(evaluation.card),
        "successes": verdict.share(found),
        "complete": "yes" if found["complete"] else "no: the same command goes on",
    })  # fmt: skip
    rows = [(row["task"], row["name"], row["successes"], row["trials"]) for row in found["tasks"]]
    summary.tables["By task"] = (("task", "instruction", "successes", "trials"), rows)
    return summary


def _report(path: Path) -> Summary:
    """The numbers of a page that a command wrote alone: an audit, an ablation, a comparison."""
    try:
        page = read_json(path / REPORT)
        facts: dict[str, object] = {
            str(name): human_number(value) for name, value in page["numbers"].items()
        }
        summary = Summary(f"{page['title']} in {path}", facts)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(
            f"{path / REPORT} is no report of depthtok ({type(error).__name__}: {error})",
            remedy="run the command that made it again",
        ) from error
    summary.text = f"look: {path / 'report.html'}"
    return summary


_SUMMARIES: Mapping[str, Callable[[Path], Summary]] = {
    "store": lambda path: _store(open_store(path)),
    "codebook": _codebook,
    "run": _run,
    "evaluation": _evaluation,
    "rlds": lambda path: _rlds(RldsDirectory.open(path)),
}
