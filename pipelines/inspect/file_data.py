"""What `inspect` says of data sets in files: LeRobot, and HDF5 demonstrations."""

from __future__ import annotations

from pathlib import Path

from depthtok.errors import SchemaError, SourceError
from depthtok.log import typed
from depthtok.remote.location import list_folders
from depthtok.sources.draft import describe
from depthtok.sources.files import FileDataset
from depthtok.sources.opening import open_files
from depthtok.sources.sampled_draft import files_draft
from depthtok.sources.schema import Schema
from pipelines.convert.description import own_schema
from pipelines.inspect.facts import Summary


def of_files(path: Path) -> Summary:
    """A summary of the data set at `path`, with a draft of a schema where none is shipped."""
    dataset = _opened(path)
    summary = Summary(f"{dataset.format} data set {dataset.name} in {dataset.path}")
    for split, count in dataset.splits.items():
        groups = dataset.groups(split, list(dataset.features))
        episodes = sum(len(group.episodes) for group in groups)
        files = {file for group in groups for file in group.files}
        list_folders([dataset.path / file for file in files])
        away = sorted(file for file in files if not (dataset.path / file).exists())
        summary.facts[f"split {split}"] = (
            f"{episodes:,} episodes in {count:,} data files ({len(files):,} with their videos)"
            + (f"; {len(away):,} are not there (first: {away[0]})" if away else "")
        )
    if dataset.notes:
        summary.facts["files"] = "; ".join(dataset.notes)
    summary.facts["rate"] = f"{dataset.fps:g} Hz" if dataset.fps else "not known"
    summary.facts |= dict(dataset.place)
    columns = ("feature", "kind", "dtype", "shape", "per")
    summary.tables["Features"] = (columns, describe(dataset.features))
    schema = Schema.find(dataset.name)
    if brought := own_schema(path):
        summary.facts["its own schema"] = f"{brought}: look at it, and give it with --schema"
    try:
        if schema:
            fitted = schema.fitted(dataset.features, dataset.name)
            summary.facts["schema"] = f"{schema.name} ({schema.status}), fits"
            summary.facts["action"] = ", ".join(fitted.action_dims)
            return summary
        summary.facts["schema"] = "none is shipped for this name; a draft is below"
    except SchemaError as error:
        summary.facts["schema"] = f"{schema.name if schema else ''} does not fit: {error.problem}"
    try:
        summary.text = (
            f"# A draft; `{typed('inspect', path, '--draft')} > my.toml` saves it. Check it, then "
            f"convert with --schema my.toml.\n{files_draft(dataset)}"
        )
    except SchemaError as error:
        summary.text = str(error)
    return summary


def _opened(path: Path) -> FileDataset:
    dataset = open_files(path)
    if dataset is None:
        raise SourceError(f"{path} is no data set in files", remedy="name its directory")
    return dataset
