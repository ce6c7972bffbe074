"""One training as a value: all that a process needs to take part in it; not a command itself.

Every rank carries out the same job, whoever started it: a command line alone, torchrun, or Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from depthtok.commands.samples import Given
    from vla.checkpoint import State
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
        self, config: Config, given: Given, cache: Path | None, begun: State | None = None
    ) -> tuple[Dataset, Dataset | None]:
        """What is learnt from and what judges, by a run that goes on from `begun`; frames are kept
        decoded in `cache`."""
        from depthtok.commands import samples

        return samples.datasets(
            config, given, self.weight, self.held_out, partial=self.partial, cache=cache,
            begun=begun,
        )  # fmt: skip


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

    @property
    def begun(self) -> State | None:
        """The newest checkpoint's, from which the training goes on; None where it begins."""
        from vla import checkpoint

        newest = checkpoint.steps(self.out)[-1:] if self.options.resume else []
        return checkpoint.read_state(newest[0]) if newest else None

    def __call__(self, say: Say, should_stop: Callable[[], bool]) -> Result:
        """This process's part of it, from the newest checkpoint on."""
        with self.opened() as train:
            return train(say, should_stop)

    @contextmanager
    def opened(self) -> Iterator[Train]:
        """The training with all data open, among the ranks that were started together."""
        from depthtok.commands import data_checks, samples
        from pipelines.device import choose, training_threads
        from vla.parallel import launched
        from vla.pretrained import pretrained
        from vla.train import train

        config, options = self.config, self.options
        training_threads(self.threads)
        with launched(choose(self.device)) as (ranks, where):
            given = self.stores.open(config, where)
            begun, cache = self.begun, self.stores.frame_cache
            with ranks.first():  # the others find the frame cache made
                learn, judge = self.stores.datasets(config, given, cache, begun)
            rule, fresh = data_checks.rule_of(begun), self.weights and not begun
            notes = {**self.notes, **data_checks.notes(learn, judge, given.book, rule)}
            more = {
                "codebook": given.book, "device": where, "validation": judge, "notes": notes,
                "weights": pretrained(self.weights, config.model) if fresh else None,
                "decode": samples.decoder(given.book, where) if judge else None,
            }  # fmt: skip
            options = options if judge else replace(options, validate_every=0)
            yield lambda say, should_stop: train(
                config, learn, self.out, options, on_step=say, should_stop=should_stop, **more
            )
