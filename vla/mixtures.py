"""Named mixtures of data sets: how often each is drawn from, and what it calls the camera to use.

A mixture is TOML in `vla/presets/mixtures/`, or a file of one's own:

    camera = "primary"                                  # the model's name of the camera
    [datasets]
    taco_play = { weight = 2.0, camera = "rgb_static" }  # the data set's name of it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from depthtok.config import from_mapping, load_toml
from depthtok.errors import ConfigError, did_you_mean
from depthtok.presets import file_of, names
from depthtok.required import require

MIXTURES = Path(__file__).parent / "presets" / "mixtures"


@dataclass(frozen=True)
class Share:
    """One data set's part: how often each of its steps is drawn in an epoch, and its camera."""

    weight: float
    camera: str

    def __post_init__(self) -> None:
        require(self.weight > 0, "weight", self.weight, "give a number above 0")


@dataclass(frozen=True)
class Mixture:
    """Data sets by name. `camera` is the name by which the model knows the camera of each."""

    name: str
    camera: str
    datasets: dict[str, Share]

    @classmethod
    def load(cls, name_or_path: str) -> Mixture:
        """A shipped mixture by name, or a TOML file. Raises `ConfigError`."""
        path = file_of(MIXTURES, name_or_path, "mixture")
        return from_mapping(cls, {"name": path.stem, **load_toml(path)}, str(path))

    def share(self, dataset: str) -> Share:
        """A data set's part, by any of the names that its schema gives it. Raises `ConfigError`."""
        from depthtok.sources.schema import Schema

        schema = None if dataset in self.datasets else Schema.find(dataset)
        for name in (dataset, *(schema.datasets if schema else ())):
            if name in self.datasets:
                return self.datasets[name]
        raise ConfigError(
            f"the data set {dataset!r} is not in the mixture {self.name!r}",
            remedy=did_you_mean(dataset, list(self.datasets)),
        )

    def cameras_of(self, dataset: str, cameras: Sequence[str]) -> tuple[str, ...]:
        """What the data set calls the model's `cameras`; names other than the mixture's stay."""
        chosen = self.share(dataset).camera
        return tuple(chosen if camera == self.camera else camera for camera in cameras)


def mixtures() -> list[str]:
    """Names of the shipped mixtures."""
    return names(MIXTURES)
