"""train-vla: EpisodeStores and CodeStores to a policy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depthtok.cli.flags import Device, Json, Partial, Resume, SourceRoot, Threads
from depthtok.cli.options import command
from depthtok.errors import ConfigError
from depthtok.log import result, say, suggest, typed
from depthtok.stores.failures import in_words

if TYPE_CHECKING:
    from depthtok.signals import StopRequest
    from pipelines.train_vla.job import Job
    from pipelines.train_vla.stores import Given
    from vla.training.train import Result

Paths = list[Path] | None
SHOWN = ("flow", "depth", "depth_top1", "val_action_mse", "samples_per_s", "data_wait", "mfu")


def register(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    command(app)(train_vla)


def train_vla(
    episodes: Annotated[list[Path], typer.Option("--episodes", help="an EpisodeStore; repeatable")],
    out: Annotated[Path, typer.Option("--out", help="directory of the run")],
    codes: Annotated[
        Paths, typer.Option("--codes", help="its CodeStore, in the same order")
    ] = None,
    depth: Annotated[
        Paths, typer.Option("--depth", help="its DepthStore, for pixel targets and crops")
    ] = None,
    codebook: Annotated[
        Path | None, typer.Option("--codebook", help="the codes' codebook, if it has moved")
    ] = None,
    preset: Annotated[
        str, typer.Option("--preset", help="named settings (tiny+causal), or a TOML file")
    ] = "tiny",
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="one setting, such as train.lr=1e-4"),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            help="start from a run, a PaliGemma folder or Hub name, an open-pi-zero file",
        ),
    ] = None,
    weight: Annotated[
        list[float] | None, typer.Option("--weight", help="sampling weight, one per data set")
    ] = None,
    camera: Annotated[
        list[str] | None, typer.Option("--camera", help="cameras to use, those with codes first")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="optimiser updates")] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", help="samples per update, over all processes")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="random seed")] = None,
    held_out: Annotated[
        float, typer.Option("--held-out", help="fraction of episodes held out for validation")
    ] = 0.1,
    micro_batch: Annotated[
        int, typer.Option("--micro-batch", help="samples per pass; 0: a process's whole share")
    ] = 0,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="recompute activations: less memory, slower")
    ] = False,
    compile: Annotated[
        bool, typer.Option("--compile", help="compile the layers with torch.compile")
    ] = False,
    activations: Annotated[
        float,
        typer.Option("--activations", help="with --compile: share kept, the rest is recomputed"),
    ] = 1.0,
    plan: Annotated[
        bool, typer.Option("--plan", help="say which memory the GPU needs, and exit")
    ] = False,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="equal bits on CUDA for one seed; slower there")
    ] = False,
    sharding: Annotated[
        str, typer.Option("--sharding", help="how processes share the model: ddp or fsdp")
    ] = "ddp",
    log: Annotated[
        list[str] | None, typer.Option("--log", help="also log to tensorboard or wandb; repeatable")
    ] = None,
    log_every: Annotated[int, typer.Option("--log-every", help="updates between log lines")] = 10,
    grad_norms_every: Annotated[
        int, typer.Option("--grad-norms-every", help="updates between the losses' gradient norms")
    ] = 0,
    validate_every: Annotated[
        int, typer.Option("--validate-every", help="updates between validations; 0: never")
    ] = 100,
    checkpoint_every: Annotated[
        int, typer.Option("--checkpoint-every", help="updates between checkpoints")
    ] = 1000,
    keep_last: Annotated[
        int, typer.Option("--keep-last", help="checkpoints to keep, besides the best weights")
    ] = 3,
    workers: Annotated[
        int, typer.Option("--workers", min=0, max=4096, help="data-loading threads")
    ] = 2,
    threads: Threads = 0,
    ranks: Annotated[
        int, typer.Option("--ranks", help="processes on Ray, one per GPU; 0: train in this one")
    ] = 0,
    ray_address: Annotated[
        str | None, typer.Option("--ray-address", help="the Ray cluster of --ranks")
    ] = None,
    frame_cache: Annotated[
        Path | None,
        typer.Option("--frame-cache", help="keep decoded frames in this directory"),
    ] = None,
    source_root: SourceRoot = None,
    partial: Partial = False,
    force: Annotated[
        bool, typer.Option("--force", help="train on a codebook below the quality gate; recorded")
    ] = False,
    device: Device = "auto",
    resume: Resume = True,
    json: Json = False,
) -> None:
    """Train a QDepth-VLA: EpisodeStores + CodeStores -> policy.

    On several GPUs: torchrun --nproc-per-node 8 -m depthtok.cli train-vla ..., with the same flags.
    On a Ray cluster: --ranks 16 --ray-address HOST:PORT.

    Example: depthtok train-vla --episodes runs/episodes --codes runs/codes --preset tiny --out
    runs/policy
    """
    from pipelines.train_vla import checks as data_checks
    from pipelines.train_vla import memory as memory_plan
    from pipelines.train_vla import samples
    from pipelines.train_vla.job import Job, Stores
    from vla.config import RunOptions
    from vla.named_configs import load
    from vla.weights.pretrained import resolved

    numbers = {"train.steps": steps, "train.batch": batch, "train.seed": seed}
    changes = {name: value for name, value in numbers.items() if value is not None}
    if deterministic:
        changes["train.deterministic"] = True
    if camera:
        changes["model.cameras"] = len(camera)
    config = load(preset, {**changes, **samples.parse_settings(setting or [])})
    stores = Stores(
        tuple(episodes), tuple(codes or ()), tuple(depth or ()), codebook, source_root,
        tuple(weight or ()), held_out, frame_cache, partial,
    )  # fmt: skip
    options = RunOptions(
        workers=workers, micro_batch=micro_batch, log_every=log_every,
        checkpoint_every=checkpoint_every, keep_last=keep_last, resume=resume,
        validate_every=validate_every, grad_norms_every=grad_norms_every,
        compile=compile, activations=activations, recompute=recompute, sharding=sharding,
        trackers=tuple(log or ()),
    )  # fmt: skip
    if plan:  # it needs no tokenizer
        told = memory_plan.of(samples.fit(config, stores.open(config), camera), options, ranks)
        say(*told.lines(), json=json)
        if json:
            result(told.to_json())
        return
    config = resolved(config, weights, out if resume else None)
    given = stores.open(config)
    config = samples.fit(config, given, camera)
    uses_codes = config.model.depth.supervised and config.model.depth.target != "pixels"
    failed = data_checks.failed_episodes(given)
    notes = {
        "weights": weights,
        "left_out": failed,
        **(samples.pass_gate(given.book, force=force) if uses_codes else {}),
    }
    job = Job(config, stores, out, options, weights, notes, device, threads)
    if ray_address and not ranks:
        raise ConfigError(
            "--ray-address needs --ranks", remedy="give the number of processes: --ranks"
        )
    job.require_same_settings()  # before a progress line, and before Ray is started
    done = _on_ray(job, given, ranks, ray_address) if ranks else _here(job)
    if done is not None:
        lines = [f"{name}: {in_words(counts)}" for name, counts in failed.items()]
        say(*_closing(done), *lines, json=json)
        suggest(typed("report", out), json=json)
        if json:
            result({"run": str(out), "step": done.step, "last": done.last, "left_out": failed})


def _here(job: Job) -> Result | None:
    """The training in this process, or this rank's part of it; None on other ranks than the first,
    which say nothing."""
    quiet = os.environ.get("RANK", "0") != "0"
    with job.opened(quiet=quiet) as train, _watched(job, quiet=quiet) as (follow, should_stop):
        done = _finished(train(follow, should_stop), should_stop)
    return None if quiet else done


def _on_ray(job: Job, given: Given, ranks: int, address: str | None) -> Result:
    """The training on Ray, watched from here."""
    from depthtok.disk.locks import writing
    from pipelines.ray.ranks import run_on_ranks

    if "WORLD_SIZE" in os.environ:
        raise ConfigError(
            "--ranks under torchrun, which has started its own", remedy="leave --ranks out"
        )
    with writing(job.out):  # the first rank locks it; a refusal is better now
        pass
    job.data(given, None)  # warnings and refusals are said here
    with _watched(job, quiet=False) as (follow, should_stop):
        done = run_on_ranks(
            job, ranks, device=job.device, address=address, on_line=follow, should_stop=should_stop
        )
        return _finished(done, should_stop)


def _finished(done: Result, request: StopRequest) -> Result:
    if not done.finished:
        raise request.stopped
    return done


@contextmanager
def _watched(job: Job, *, quiet: bool) -> Iterator[tuple[Callable, StopRequest]]:
    """What to call with every log line, which moves a progress bar, and what tells of a signal."""
    from depthtok.progress import progress
    from depthtok.signals import stop_request
    from vla.training import checkpoint

    total, begun = job.config.train.steps, checkpoint.newest_step(job.out)
    begun = begun if job.options.resume else 0
    shown = nullcontext() if quiet else progress(total, "steps", "train-vla", done=begun)
    with stop_request() as should_stop, shown as bar:

        def follow(line: dict[str, float]) -> None:
            if bar is not None:
                figures = {name: line[name] for name in SHOWN if name in line}
                bar.reach(int(line["step"]), **figures)

        yield follow, should_stop


def _closing(done) -> list[str]:
    from depthtok.disk.files import read_json_lines
    from pipelines.train_vla.checks import words
    from vla.training import checkpoint

    notes = checkpoint.read_state(checkpoint.find(done.run)).notes or {}
    last = done.last or read_json_lines(done.run / "metrics.jsonl")[-1]
    lines = [f"{done.run}: {done.step} steps, action (flow) loss {last['flow']:.3f}"]
    if "depth" in last:
        lines[0] += f", depth loss {last['depth']:.3f}"
    if "depth_top1" in last:
        lines[0] += f", {100 * last['depth_top1']:.1f} % depth code accuracy"
    if "val_action_mse" in last:
        lines.append(
            f"on held-out episodes: action error (MSE, normalised) {last['val_action_mse']:.3f}"
            + (f", depth loss {last['val_depth']:.3f}" if "val_depth" in last else "")
        )
    if "val_depth_error" in last:
        lines[-1] += f", decoded depth off by {last['val_depth_error']:.3f} of the range"
    lines += words(notes.get("held_out"))
    return [*lines, f"log: {done.run / 'metrics.jsonl'}; weights: {done.run / 'checkpoints'}"]
