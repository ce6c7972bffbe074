"""One training as a value: all that a process needs to take part in it; not a command itself.

Every rank carries out the same job, whoever started it: a command line alone, torchrun, or Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from depthtok.commands.samples import Given
    from vla.config import Config, RunOptions
    from vla.data import Dataset
    from vla.train import Result

    Say = Callable[[Mapping[str, float]], None]
    Train = Callable[[Say, Callable[[], bool]], Result]


@dataclass(frozen=True)
class Stores:
    """Where the data of a training lie, and how they are drawn from."""

    episodes: tuple[Path, ...]
    codes: tuple[Path, ...] = ()
    depth: tuple[Path, ...] = ()
    codebook: Path | None = None
    source_root: Path | None = None
    weight: tuple[float, ...] = ()
    held_out: float = 0.1
    frame_cache: Path | None = None
    partial: bool = False

    def open(self, config: Config, device: str = "cpu") -> Given:
        """The stores, opened and paired up."""
        from depthtok.commands.samples import Given

        return Given.open(
            config, self.episodes, self.codes, self.depth, self.codebook, self.source_root, device
        )

    def datasets(
        self, config: Config, given: Given, cache: Path | None
    ) -> tuple[Dataset, Dataset | None]:
        """What is learnt from and what judges; frames are kept decoded in `cache`."""
        from depthtok.commands import samples

        return samples.datasets(
            config, given, self.weight, self.held_out, partial=self.partial, cache=cache
        )


@dataclass(frozen=True)
class Job:
    """A training; picklable. `config` is resolved: what the data decide stands in it."""

    config: Config
    stores: Stores
    out: Path
    options: RunOptions
    weights: str | None = None  # to begin from
    notes: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    threads: int = 0

    def __call__(self, say: Say, should_stop: Callable[[], bool]) -> Result:
        """This process's part of it, from the newest checkpoint on."""
        with self.opened() as train:
            return train(say, should_stop)

    @contextmanager
    def opened(self) -> Iterator[Train]:
        """The training with all data open, among the ranks that were started together."""
        from depthtok.commands import samples
        from depthtok.locks import writing
        from pipelines.device import choose, training_threads
        from vla import checkpoint
        from vla.parallel import launched
        from vla.pretrained import pretrained
        from vla.train import train

        config, options = self.config, self.options
        training_threads(self.threads)
        with launched(choose(self.device)) as (ranks, where), ExitStack() as locked:
            if ranks.rank == 0:  # which writes all of the run
                locked.enter_context(writing(self.out))
            given = self.stores.open(config, where)
            with ranks.first():  # the others find the frame cache made
                learn, judge = self.stores.datasets(config, given, self.stores.frame_cache)
            begun = checkpoint.newest_step(self.out) if options.resume else 0
            fresh = self.weights and not begun
            more = {
                "codebook": given.book, "device": where, "validation": judge, "notes": self.notes,
                "weights": pretrained(self.weights, config.model) if fresh else None,
                "decode": samples.decoder(given.book, where) if judge else None,
            }  # fmt: skip
            options = options if judge else replace(options, validate_every=0)
            yield lambda say, should_stop: train(
                config, learn, self.out, options, on_step=say, should_stop=should_stop, **more
            )
