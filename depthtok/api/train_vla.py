"""EpisodeStores and CodeStores to a policy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from depthtok.api.flags import Device
from depthtok.api.parameters import BySet, Flag, Only, Prefix, Preset, Renamed
from depthtok.errors import ConfigError
from pipelines.train_vla.inputs import Stores
from pipelines.train_vla.memory import MemoryPlan
from vla.config import Config
from vla.named_configs import load
from vla.run_options import TrainingOptions

if TYPE_CHECKING:
    from depthtok.signals import StopRequest
    from pipelines.train_vla.job import PolicyTraining
    from pipelines.train_vla.stores import OpenStores
    from vla.training.train import Result

SHOWN = ("flow", "depth", "depth_top1", "val_action_mse", "samples_per_s", "data_wait", "mfu")
BY_SET = (
    *("micro_batch", "recompute", "compile", "activations", "sharding", "trackers", "log_every"),
    *("grad_norms_every", "validate_every", "validate_batches", "checkpoint_every", "keep_last"),
    "prefetch",
)


@dataclass(frozen=True)
class TrainedPolicy:
    """A run: the last of its log's lines, and by data set how many episodes could not be read."""

    run: Path
    step: int
    last: Mapping[str, float]
    left_out: Mapping[str, Mapping[str, int]]
    rank: int = 0  # of this process, where torchrun started several


def train_vla(
    out: Annotated[Path, "directory of the run"],
    stores: Annotated[
        Stores,
        BySet("codebook", "sampling_weight", "mixture", "frame_cache", "partial"),
        Renamed(weight="sampling_weight"),
    ],
    settings: Annotated[
        Config,
        Preset(
            load,
            "tiny",
            flags={name: f"train.{name}" for name in ("steps", "batch", "seed")},
            formerly={"deterministic": "train.deterministic"},
            counts={"camera": "model.cameras"},
            help="named settings (tiny+causal), or a TOML file",
        ),
    ],
    options: Annotated[
        TrainingOptions,
        Prefix("run", log="trackers"),
        Only("loader_threads", "resume", *BY_SET),
        BySet(*BY_SET),
        Renamed(workers="loader_threads"),
    ],
    weights: Annotated[
        str | None, "start from a run, a PaliGemma folder or Hub name, an open-pi-zero file"
    ] = None,
    camera: Annotated[list[str] | None, "cameras to use, those with codes first"] = None,
    plan: Annotated[bool, "say which memory the GPU needs, and exit"] = False,
    ranks: Annotated[int, Flag("processes on Ray, one per GPU; 0: train in this one", least=0)] = 0,
    ray_address: Annotated[str | None, "the Ray cluster of --ranks"] = None,
    force: Annotated[
        bool, Flag("train on a codebook below the quality gate; recorded", by_set=True)
    ] = False,
    device: Device = "auto",
    threads: Annotated[
        int, Flag("CPU threads of the model; 0: all cores", least=0, most=4096, by_set=True)
    ] = 0,
) -> TrainedPolicy | MemoryPlan:
    """Train a QDepth-VLA: EpisodeStores + CodeStores -> policy.

    On several GPUs: torchrun --nproc-per-node 8 -m depthtok.cli train-vla ..., with the same flags.
    On a Ray cluster: --ranks 16 --ray-address HOST:PORT; an address without ranks is refused.

    Example: depthtok train-vla --episodes runs/episodes --codes runs/codes --preset tiny --out
    runs/policy
    """
    from depthtok.remote.snapshots import pinned
    from pipelines.train_vla import checks, memory, samples
    from pipelines.train_vla.job import PolicyTraining
    from pipelines.train_vla.stores import OpenStores
    from vla.training.resume import as_begun
    from vla.weights.pretrained import resolved

    if weights:
        weights = pinned(weights)
    if plan:  # it needs no tokenizer
        return memory.of(
            samples.fit(settings, OpenStores.of(settings, stores), camera), options, ranks
        )
    settings = resolved(settings, weights, out if options.resume else None)
    settings = as_begun(out, settings) if options.resume else settings
    opened = OpenStores.of(settings, stores)
    settings = samples.fit(settings, opened, camera)
    uses_codes = settings.model.depth.uses_depth and settings.model.depth.target != "pixels"
    failed = checks.failed_episodes(opened)
    checks.tell_what_is_outdated(opened)
    notes = {
        "weights": weights,
        "left_out": failed,
        **(samples.pass_gate(opened.book, force=force) if uses_codes else {}),
    }
    job = PolicyTraining(settings, stores, out, options, weights, notes, device, threads)
    if ray_address and not ranks:
        raise ConfigError(
            "--ray-address needs --ranks", remedy="give the number of processes: --ranks"
        )
    job.require_same_settings()  # before a progress line, and before Ray is started
    training = _on_ray(job, opened, ranks, ray_address) if ranks else _here(job)
    return TrainedPolicy(out, training.step, training.last, failed, _rank())


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _here(job: PolicyTraining) -> Result:
    """The training in this process, or this rank's part of it."""
    quiet = _rank() > 0
    with job.opened(quiet=quiet) as train, _watched(job, quiet=quiet) as (follow, should_stop):
        return _finished(train(follow, should_stop), should_stop)


def _on_ray(job: PolicyTraining, opened: OpenStores, ranks: int, address: str | None) -> Result:
    """The training on Ray, watched from here."""
    from depthtok.disk.locks import writing
    from depthtok.launch import world_size
    from pipelines.ray.ranks import run_on_ranks
    from vla.training.parallel import Ranks

    if world_size():
        raise ConfigError(
            "--ranks under torchrun, which has started its own", remedy="leave --ranks out"
        )
    Ranks(0, ranks).rows(job.config.train.batch)  # refused before Ray is started
    with writing(job.out):  # the first rank locks it; a refusal is better now
        pass
    job.data(opened, None)  # warnings and refusals are said here
    with _watched(job, quiet=False) as (follow, should_stop):
        training = run_on_ranks(
            job, ranks, device=job.device, address=address, on_line=follow, should_stop=should_stop
        )
        return _finished(training, should_stop)


def _finished(training: Result, request: StopRequest) -> Result:
    if not training.finished:
        raise request.stopped
    return training


@contextmanager
def _watched(job: PolicyTraining, *, quiet: bool) -> Iterator[tuple[Callable, StopRequest]]:
    """What to call with every log line, which moves a progress bar, and what tells of a signal."""
    from depthtok.progress import progress
    from depthtok.signals import stop_request
    from vla.training import checkpoint

    total, first_step = job.config.train.steps, checkpoint.newest_step(job.out)
    first_step = first_step if job.options.resume else 0
    shown = nullcontext() if quiet else progress(total, "steps", "train-vla", done=first_step)
    with stop_request() as should_stop, shown as bar:

        def follow(line: dict[str, float]) -> None:
            if bar is not None:
                figures = {name: line[name] for name in SHOWN if name in line}
                bar.reach(int(line["step"]), **figures)

        yield follow, should_stop
