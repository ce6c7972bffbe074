"""A summary of any data set, store, codebook, training run, evaluation, report or film."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from depthtok.errors import SourceError
from depthtok.format import human_number
from depthtok.sources.features import read_json
from depthtok.sources.rlds import RldsDirectory
from depthtok.stores.lineage import open_store
from pipelines.inspect import data, film_table, trained
from pipelines.inspect.facts import Summary
from pipelines.inspect.file_data import of_files
from pipelines.inspect.kinds import as_described, inside, kind_of, not_known

REPORT = "report.json"  # beside the page of an audit, an ablation, a comparison


def inspect(path: Path) -> Summary:
    """A summary of what lies at `path`. Raises `SourceError` where it is nothing we know."""
    kind = kind_of(path)
    if kind is not None:
        with as_described(path, kind):
            return _SUMMARIES[kind](path)
    if (path / REPORT).is_file():
        return _report(path)
    if films := film_table.summary(path, inside=bool(inside(path))):
        return films
    raise not_known(path)


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
    "store": lambda path: data.of_store(open_store(path)),
    "codebook": trained.of_codebook,
    "run": trained.of_run,
    "evaluation": trained.of_evaluation,
    "rlds": lambda path: data.of_rlds(RldsDirectory.open(path)),
    "files": of_files,
}
