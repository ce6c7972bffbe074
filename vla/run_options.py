"""How a training runs: what may differ between two processes that train the same. Standard library
only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from depthtok.required import at_least, fulfilled, one_of
from vla.config import Config

MOST_THREADS = 4096


@dataclass(frozen=True)
class TrainingOptions:
    """How a training runs. Nothing here changes what is learnt on one kind of device."""

    loader_threads: Annotated[int, "data loading threads; 0: load in the training thread"] = 2
    prefetch: Annotated[int, "batches loaded ahead"] = 2
    micro_batch: Annotated[int, "samples per rank at once; 0: the rank's share of the batch"] = 0
    log_every: Annotated[int, "steps between log lines"] = 10
    checkpoint_every: Annotated[int, "steps between checkpoints"] = 1000
    keep_last: Annotated[int, "checkpoints to keep"] = 3
    validate_every: Annotated[int, "steps between validations; 0: never"] = 100
    validate_batches: Annotated[int, "batches per validation"] = 8
    grad_norms_every: Annotated[
        int, "steps between gradient norms of the two losses (not with fsdp); 0: never"
    ] = 0
    resume: Annotated[bool, "resume from the newest checkpoint"] = True
    compile: Annotated[bool, "torch.compile each layer"] = False
    activations: Annotated[
        float, "share of activations that compiled layers keep; they compute the rest again"
    ] = 1.0
    recompute: Annotated[bool, "activation checkpointing of each layer"] = False
    sharding: Annotated[str, "how several ranks share the model: ddp or fsdp"] = "ddp"
    trackers: Annotated[
        tuple[str, ...], "loggers in addition to metrics.jsonl: tensorboard, wandb"
    ] = ()

    def __post_init__(self) -> None:
        for name in self.trackers:
            one_of("log", name, ("tensorboard", "wandb"))
        one_of("sharding", self.sharding, ("ddp", "fsdp"))
        at_least(1, self, "log_every checkpoint_every keep_last validate_batches")
        at_least(0, self, "loader_threads prefetch micro_batch validate_every grad_norms_every")
        fulfilled(
            self.loader_threads <= MOST_THREADS,
            f"loader_threads = {self.loader_threads}, but must be at most {MOST_THREADS}",
            "each decodes frames: give about as many as there are cores",
        )
        fulfilled(
            self.activations == 1 or (self.compile and 0 <= self.activations < 1),
            f"activations = {self.activations}, but must be 1, or with compile between 0 and 1",
            "set compile, too; without it, recompute needs the least memory",
        )
        fulfilled(
            not (self.grad_norms_every and self.sharding == "fsdp"),
            "grad_norms_every needs whole gradients, which FSDP never materialises",
            "set grad_norms_every = 0, or sharding = 'ddp'",
        )

    def require_suits(self, config: Config) -> None:
        """Raises `ConfigError` for options that these settings rule out."""
        fulfilled(
            config.train.optimizer != "adamw8bit" or self.sharding != "fsdp",
            "sharded 8-bit moments cannot be gathered for a checkpoint",
            "set train.optimizer = 'adamw', or run.sharding = 'ddp'",
        )
