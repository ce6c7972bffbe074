"""A draft of a schema for the data at hand: of their features, and values in a few episodes."""

from __future__ import annotations

from depthtok.sources.draft import draft
from depthtok.sources.files import FileDataset
from depthtok.sources.rlds import RldsDirectory
from depthtok.sources.sample import sample, sample_files


def rlds_draft(rlds: RldsDirectory) -> str:
    """TOML for an RLDS data set. Raises `SchemaError` where none can be made."""
    return draft(rlds.features, rlds.name, sample(rlds))


def files_draft(dataset: FileDataset) -> str:
    """TOML for LeRobot and HDF5. Raises `SchemaError` where none can be made."""
    return draft(dataset.features, dataset.name, sample_files(dataset), dataset.fps)
