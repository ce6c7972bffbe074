"""One training as a value: all that a process needs to take part in it; not a command itself.

Every rank carries out the same job, whoever started it: a command line alone, torchrun, or Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

if TYPE_CHECKING:
    from pipelines.train_vla.stores import Given
    from vla.config import Config
    from vla.data.dataset import Dataset
    from vla.data.prompts import Prompts
    from vla.data.tokenizer import Tokenizer
    from vla.run_options import TrainingOptions
    from vla.training.checkpoint import TrainingState
    from vla.training.train import Result

    Say = Callable[[Mapping[str, float]], None]
    Train = Callable[[Say, Callable[[], bool]], Result]


@dataclass(frozen=True)
class Stores:
    """Where the data of a training lie, and how they are drawn from."""

    episodes: Annotated[tuple[Path, ...], "an EpisodeStore; repeatable"]
    codes: Annotated[tuple[Path, ...], "its CodeStore, in the same order"] = ()
    depth: Annotated[tuple[Path, ...], "its DepthStore, for pixel targets and crops"] = ()
    codebook: Annotated[Path | None, "the codes' codebook, if it has moved"] = None
    source_root: Annotated[Path | None, "where the source data set lies now, if it moved"] = None
    weight: Annotated[tuple[float, ...], "sampling weight, one per data set"] = ()
    held_out: Annotated[float, "fraction of episodes held out for validation"] = 0.1
    frame_cache: Annotated[Path | None, "keep decoded frames in this directory"] = None
    partial: Annotated[bool, "use stores that lack parts"] = False

    def open(self, config: Config, device: str = "cpu") -> Given:
        """The stores, opened and paired up."""
        from pipelines.train_vla.stores import Given

        return Given.open(
            config, self.episodes, self.codes, self.depth, self.codebook, self.source_root, device
        )

    def datasets(
        self,
        config: Config,
        opened: Given,
        cache: Path | None,
        reader: Tokenizer | None = None,
        begun: TrainingState | None = None,
    ) -> tuple[Dataset, Dataset | None]:
        """What is learnt from and what validates, by a run that goes on from `begun`; frames are
        kept decoded in `cache`."""
        from pipelines.train_vla import samples

        return samples.datasets(
            config,
            opened,
            self.weight,
            self.held_out,
            partial=self.partial,
            cache=cache,
            reader=reader,
            begun=begun,
        )


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
        from vla.training import checkpoint

        return None if self.begun is None else checkpoint.read_state(checkpoint.find(self.out))

    def __call__(self, say: Say, should_stop: Callable[[], bool]) -> Result:
        """This process's part of it, from the newest checkpoint on."""
        with self.opened(quiet=True) as train:
            return train(say, should_stop)

    @property
    def begun(self) -> Path | None:
        """The run, if it goes on."""
        from vla.training import checkpoint

        return self.out if self.options.resume and checkpoint.steps(self.out) else None

    def require_same_settings(self) -> None:
        """Raises `StaleStore` for a run that was begun with other settings. (The training says so,
        too, but only when all is open.)"""
        from vla.training import checkpoint, resume

        if self.begun is not None:
            begun = checkpoint.read_config(checkpoint.find(self.out))
            resume.require_same_settings(self.out, begun, self.config)

    def data(
        self, opened: Given, cache: Path | None, *, quiet: bool = False
    ) -> tuple[Dataset, Dataset | None, Prompts]:
        """What is learnt from, what validates, and what will be read of their instructions."""
        from pipelines.train_vla.prompts import look_over
        from vla.weights.pretrained import reader

        words = reader(self.config, self.begun)
        learn, validation = self.stores.datasets(self.config, opened, cache, words, self.state)
        return (
            learn,
            validation,
            look_over(learn, validation, begun=self.begun is not None, quiet=quiet),
        )

    @contextmanager
    def opened(self, *, quiet: bool = False) -> Iterator[Train]:
        """The training with all data open, among the ranks that were started together."""
        from depthtok.disk.locks import writing
        from pipelines.device import choose, training_threads
        from pipelines.train_vla import checks as data_checks
        from pipelines.train_vla import samples
        from vla.training.deterministic import before_cuda
        from vla.training.parallel import launched
        from vla.training.train import train

        config, options = self.config, self.options
        training_threads(self.threads)
        if config.train.deterministic:
            before_cuda()
        with launched(choose(self.device)) as (ranks, where), ExitStack() as locked:
            if ranks.rank == 0:  # which writes all of the run
                locked.enter_context(writing(self.out))
            opened = self.stores.open(config, where)
            with ranks.first():  # the others find the frame cache made
                learn, validation, prompts = self.data(opened, self.stores.frame_cache, quiet=quiet)
            checks = data_checks.notes(
                learn, validation, opened.book, data_checks.rule_of(self.state)
            )
            begun_from = data_checks.begun_from(self.weights, learn, self.state)
            notes = {**self.notes, **begun_from, "instructions": prompts.to_json(), **checks}
            weights = self._weights(learn.tokenizer) if self.begun is None else None
            decode = samples.decoder(opened.book, where) if validation else None
            options = options if validation else replace(options, validate_every=0)
            yield lambda say, should_stop: train(
                config,
                learn,
                self.out,
                options,
                codebook=opened.book,
                device=where,
                validation=validation,
                notes=notes,
                weights=weights,
                decode=decode,
                on_step=say,
                should_stop=should_stop,
            )

    def _weights(self, words: Tokenizer) -> Mapping[str, Any] | None:
        """The tensors to begin from."""
        from vla.weights.pretrained import pretrained

        tokens = None if words.content is None else words.size
        return pretrained(self.weights, self.config.model, tokens) if self.weights else None
