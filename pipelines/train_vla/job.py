"""One training as a value: all that a process needs to take part in it; not a command itself.

Every rank carries out the same job, whoever started it: a command line alone, torchrun, or Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from depthtok.disk.locks import writing
from pipelines.device import choose, training_threads
from pipelines.train_vla import checks, origins, samples
from pipelines.train_vla.inputs import Stores
from pipelines.train_vla.prompts import look_over
from pipelines.train_vla.stores import OpenStores
from vla.config import Config
from vla.data.dataset import Dataset
from vla.data.prompts import Prompts
from vla.data.tokenizer import Tokenizer
from vla.run_options import TrainingOptions
from vla.training import checkpoint, resume
from vla.training.checkpoint import TrainingState
from vla.training.deterministic import before_cuda
from vla.training.parallel import launched
from vla.training.train import Result, train
from vla.weights.pretrained import pretrained, reader

Say = Callable[[Mapping[str, float]], None]
Train = Callable[[Say, Callable[[], bool]], Result]


@dataclass(frozen=True)
class PolicyTraining:
    """A training; picklable. `config` is resolved: what the data decide stands in it."""

    config: Config
    stores: Stores
    out: Path
    options: TrainingOptions
    weights: str | None = None  # to begin from
    notes: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    threads: int = 0

    @property
    def state(self) -> TrainingState | None:
        """The newest checkpoint's, from which the training goes on; None where it begins."""
        return None if self.begun is None else checkpoint.read_state(checkpoint.find(self.out))

    def __call__(self, say: Say, should_stop: Callable[[], bool]) -> Result:
        """This process's part of it, from the newest checkpoint on."""
        with self.opened(quiet=True) as train_on:
            return train_on(say, should_stop)

    @property
    def begun(self) -> Path | None:
        """The run, if it goes on."""
        return self.out if self.options.resume and checkpoint.steps(self.out) else None

    def require_same_settings(self) -> None:
        """Raises `StaleStore` for a run that was begun with other settings. (The training says so,
        too, but only when all is open.)"""
        if self.begun is not None:
            settings = checkpoint.read_config(checkpoint.find(self.out))
            resume.require_same_settings(self.out, settings, self.config)

    def data(
        self, opened: OpenStores, cache: Path | None, *, quiet: bool = False
    ) -> tuple[Dataset, Dataset | None, Prompts]:
        """What is learnt from, what validates, and what will be read of their instructions."""
        learn, validation = samples.datasets(
            self.config,
            opened,
            self.stores.sampling_weight,
            self.stores.held_out,
            partial=self.stores.partial,
            cache=cache,
            reader=reader(self.config, self.begun),
            begun=self.state,
        )
        prompts = look_over(learn, validation, begun=self.begun is not None, quiet=quiet)
        return learn, validation, prompts

    @contextmanager
    def opened(self, *, quiet: bool = False) -> Iterator[Train]:
        """The training with all data open, among the ranks that were started together."""
        config, options = self.config, self.options
        training_threads(self.threads)
        if config.train.deterministic:
            before_cuda()
        with launched(choose(self.device)) as (ranks, device), ExitStack() as locked:
            ranks.rows(config.train.batch)  # refused now, not when all is open
            if ranks.rank == 0:  # which writes all of the run
                locked.enter_context(writing(self.out))
            opened = OpenStores.of(config, self.stores, device)
            with ranks.first():  # the others find the frame cache made
                learn, validation, prompts = self.data(opened, self.stores.frame_cache, quiet=quiet)
            notes = {
                **self.notes,
                **checks.begun_from(self.weights, learn, self.state),
                **origins.notes(opened, self.state),
                "instructions": prompts.to_json(),
                **checks.notes(learn, validation, opened.book, self.state),
            }
            checks.require_same_codes(self.state, notes)
            weights = self._weights(learn.tokenizer) if self.begun is None else None
            decode = samples.decoder(opened.book, device) if validation else None
            options = options if validation else replace(options, validate_every=0)
            yield lambda say, should_stop: train(
                config,
                learn,
                self.out,
                options,
                codebook=opened.book,
                device=device,
                validation=validation,
                notes=notes,
                weights=weights,
                decode=decode,
                on_step=say,
                should_stop=should_stop,
            )

    def _weights(self, words: Tokenizer) -> Mapping[str, Any] | None:
        """The tensors to begin from."""
        tokens = None if words.content is None else words.size
        return pretrained(self.weights, self.config.model, tokens) if self.weights else None
