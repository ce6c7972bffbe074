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
    """TOML for LeRobot and HDF5. What robomimic has of the next step is no part of a step. Raises
    `SchemaError` where none can be made."""
    features = {path: f for path, f in dataset.features.items() if not path.startswith("next_obs/")}
    return draft(features, dataset.name, sample_files(dataset), dataset.fps)
