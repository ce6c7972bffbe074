"""train-vla: EpisodeStores and CodeStores to a policy."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depthtok.commands.train import Device, Json, Resume
from depthtok.errors import ConfigError, GateError
from depthtok.log import result, say, suggest, warn
from depthtok.options import command

if TYPE_CHECKING:
    from depthtok.codebook import Codebook
    from depthtok.codes import CodeStore
    from depthtok.episodes import EpisodeStore
    from vla.config import Config
    from vla.data import Dataset


def register(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    command(app)(train_vla)


def train_vla(
    episodes: Annotated[list[Path], typer.Option("--episodes", help="an EpisodeStore; repeatable")],
    out: Annotated[Path, typer.Option("--out", help="directory of the run to make")],
    codes: Annotated[
        list[Path] | None, typer.Option("--codes", help="its CodeStore, in the same order")
    ] = None,
    codebook: Annotated[
        Path | None, typer.Option("--codebook", help="the codes' codebook, if it has moved")
    ] = None,
    preset: Annotated[
        str, typer.Option("--preset", help="named settings, or a TOML file")
    ] = "tiny",
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="one setting, such as train.lr=1e-4"),
    ] = None,
    weight: Annotated[
        list[float] | None, typer.Option("--weight", help="how often a data set is drawn; one each")
    ] = None,
    camera: Annotated[
        list[str] | None, typer.Option("--camera", help="cameras to see, those with codes first")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="updates")] = None,
    batch: Annotated[int | None, typer.Option("--batch", help="samples in an update")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="of everything random")] = None,
    held_out: Annotated[
        float, typer.Option("--held-out", help="share of the episodes that only judge")
    ] = 0.1,
    validate_every: Annotated[
        int, typer.Option("--validate-every", help="updates between judgements; 0 is never")
    ] = 100,
    checkpoint_every: Annotated[
        int, typer.Option("--checkpoint-every", help="updates between checkpoints")
    ] = 1000,
    workers: Annotated[int, typer.Option("--workers", help="threads that load samples")] = 2,
    threads: Annotated[
        int, typer.Option("--threads", help="CPU threads of the model; 0 is torch's own choice")
    ] = 0,
    source_root: Annotated[
        Path | None, typer.Option("--source-root", help="where the images lie now, if they moved")
    ] = None,
    partial: Annotated[bool, typer.Option("--partial", help="use stores that lack parts")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="train on a codebook below the quality gate; recorded")
    ] = False,
    device: Device = "auto",
    resume: Resume = True,
    json: Json = False,
) -> None:
    """Train a QDepth-VLA: EpisodeStores + CodeStores -> policy.

    Example: depthtok train-vla --episodes runs/episodes --codes runs/codes --preset tiny --out
    runs/policy
    """
    import torch

    from depthtok.codes import CodeStore
    from depthtok.episodes import EpisodeStore
    from pipelines.device import choose
    from vla import config as settings
    from vla.train import train

    if codes and len(codes) != len(episodes):
        raise ConfigError(
            f"{len(codes)} --codes for {len(episodes)} --episodes", remedy="give one each, or none"
        )
    stores = [EpisodeStore(path, source_root=source_root) for path in episodes]
    code_stores = [CodeStore(path) for path in codes or ()]
    book = find_codebook(code_stores, codebook)
    numbers = {"train.steps": steps, "train.batch": batch, "train.seed": seed}
    given = {name: value for name, value in numbers.items() if value is not None}
    config = settings.load(preset, {**given, **parse_settings(setting or [])})
    config = fit(config, stores, code_stores, book, camera)
    notes = pass_gate(book, force=force) if config.model.depth.supervised else {}
    learn, judge = datasets(config, stores, code_stores, book, weight, held_out, partial=partial)
    where = choose(device)
    if threads:
        torch.set_num_threads(threads)
    options = settings.RunOptions(
        workers=workers, resume=resume, checkpoint_every=checkpoint_every,
        validate_every=validate_every if judge else 0,
    )  # fmt: skip
    done = _watched(train, config, learn, out, options, book, where, judge, notes)
    say(*_closing(done), json=json)
    suggest(f"depthtok report {out}", json=json)
    if json:
        result({"run": str(out), "step": done.step, "last": done.last})


def _watched(train, config, learn, out, options, book, device, judge, notes):
    """The training, with a progress bar and a clean stop."""
    from depthtok.progress import progress
    from depthtok.signals import Stopped, stop_request

    with (
        stop_request() as should_stop,
        progress(total=config.train.steps, unit="steps", label="train-vla") as bar,
    ):
        last = 0

        def on_step(line: dict[str, float]) -> None:
            nonlocal last
            shown = {name: line[name] for name in SHOWN if name in line}
            bar.advance(int(line["step"]) - last, **shown)
            last = int(line["step"])

        done = train(
            config, learn, out, options, codebook=book, device=device, should_stop=should_stop,
            on_step=on_step, validation=judge, notes=notes,
        )  # fmt: skip
    if not done.finished:
        raise Stopped(15)
    return done


SHOWN = ("flow", "depth", "depth_top1", "samples_per_s", "data_wait")


def find_codebook(codes: Sequence[CodeStore], path: Path | None) -> Codebook | None:
    """The codebook that all the codes are of."""
    from depthtok.codebook import Codebook

    if not codes:
        return None
    book = Codebook.load(path or codes[0].spec.place["codebook"])
    for store in codes:
        store.require_codebook(book.fingerprint)
    return book


def pass_gate(book: Codebook | None, *, force: bool) -> dict[str, Any]:
    """Refuses a bad codebook. What was overridden goes into the checkpoint."""
    from vqvae.gate import judge

    failures = judge(book.quality) if book else []
    if failures and not force:
        raise GateError(
            f"{book.path} is below the quality gate: {'; '.join(failures)}",
            remedy="train the codebook longer or on more data, or train anyway with --force, which "
            "the checkpoint records",
        )
    if book and book.demo:
        warn(f"{book.path} is a demo codebook: it shows the pipeline, and is no base for results")
    return {"gate_overridden": failures} if failures else {}


def parse_settings(texts: Sequence[str]) -> dict[str, Any]:
    """`NAME=VALUE` texts; values are TOML, and plain words are strings."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text} has no value", remedy="write --set train.lr=1e-4")
        try:
            found[name] = tomllib.loads(f"x = {value}")["x"]
        except tomllib.TOMLDecodeError:
            found[name] = value
    return found


def fit(
    config: Config, stores: Sequence[EpisodeStore], codes: Sequence[CodeStore],
    book: Codebook | None, cameras: Sequence[str] | None,
) -> Config:  # fmt: skip
    """The settings with everything that the data decide: dimensions, cameras, the code grid."""
    first = stores[0]
    coded = codes[0].cameras if codes else ()
    names = list(cameras or config.data.cameras)
    if not names:
        names = sorted(first.cameras, key=lambda name: name not in coded)[: config.model.cameras]
    changes: dict[str, Any] = {
        "data.cameras": names,
        "model.cameras": len(names),
        "model.action_dim": first.action_dim,
    }
    if config.model.proprio_dim:
        changes["model.proprio_dim"] = first.proprio_dim
    if book:
        changes |= {
            "model.depth.code_dim": book.vectors.shape[1],
            "model.depth.codes": book.vectors.shape[0],
            "model.depth.grid": book.grid[0],
            "model.depth.cameras": min(config.model.depth.cameras, len(names)),
        }
    return config.updated(changes)


def datasets(
    config: Config, stores: Sequence[EpisodeStore], codes: Sequence[CodeStore],
    book: Codebook | None, weights: Sequence[float] | None, held_out: float, *, partial: bool,
) -> tuple[Dataset, Dataset | None]:  # fmt: skip
    """What is learnt from and what judges, split by episode."""
    from vla import data, tokenizer

    weights = weights or [1.0] * len(stores)
    if len(weights) != len(stores):
        raise ConfigError(
            f"{len(weights)} weights for {len(stores)} data sets", remedy="give one --weight each"
        )
    reader = tokenizer.load(config.data.tokenizer)
    learn, judge = [], []
    for place, store in enumerate(stores):
        store.require_complete(partial=partial)
        kept, out = data.held_out([episode.key for episode in store], held_out)
        for chosen, members in ((kept, learn), (out, judge)):
            if chosen:
                members.append(
                    data.member(
                        store.about["dataset"], store, codes[place] if codes else None, config,
                        codebook=book.fingerprint if book else "", weight=weights[place],
                        only=chosen, partial=partial,
                    )
                )  # fmt: skip
        left_out = sum(member.left_out for member in (*learn[-1:], *judge[-1:]))
        if left_out:
            warn(f"{store.path}: {left_out} episodes without codes are left out")
    if not learn:
        raise ConfigError("every episode is held out", remedy="lower --held-out")
    judging = data.Dataset(judge, config, reader) if judge else None
    return data.Dataset(learn, config, reader), judging


def _closing(done) -> list[str]:
    last = done.last or loads((done.run / "metrics.jsonl").read_text().splitlines()[-1])
    lines = [f"{done.run}: {done.step} steps, action (flow) loss {last['flow']:.3f}"]
    if "depth" in last:
        lines[0] += f", depth loss {last['depth']:.3f}"
    if "depth_top1" in last:
        lines[0] += f", {100 * last['depth_top1']:.1f} % of the codes right"
    if "val_action_mse" in last:
        lines.append(
            f"on held-out episodes: action error (MSE, normalised) {last['val_action_mse']:.3f}"
            + (f", depth loss {last['val_depth']:.3f}" if "val_depth" in last else "")
        )
    return [*lines, f"log: {done.run / 'metrics.jsonl'}; weights: {done.run / 'checkpoints'}"]
