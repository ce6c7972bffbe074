"""eval-depth: a trained depth expert on another data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from depthtok.cli.flags import Device, Json, SourceRoot
from depthtok.cli.options import command
from depthtok.errors import StaleStore
from depthtok.log import result, say


def register(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    command(app)(eval_depth)


def eval_depth(
    run: Annotated[Path, typer.Argument(help="a training run, or one of its checkpoints")],
    episodes: Annotated[Path, typer.Option("--episodes", help="an EpisodeStore")],
    codes: Annotated[Path, typer.Option("--codes", help="its CodeStore, of the run's codebook")],
    codebook: Annotated[
        Path | None, typer.Option("--codebook", help="the codes' codebook, if it has moved")
    ] = None,
    camera: Annotated[
        list[str] | None,
        typer.Option("--camera", help="names of the run's cameras here, in their order"),
    ] = None,
    samples: Annotated[int, typer.Option("--samples", help="frames to score")] = 512,
    out: Annotated[
        Path | None, typer.Option("--out", help="also write a page with images here")
    ] = None,
    source_root: SourceRoot = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Evaluate a policy's depth expert on another data set.

    Its figures stand beside those of a constant answer that ignores the image.

    Example: depthtok eval-depth runs/policy --episodes runs/other/episodes --codes runs/other/codes
    """
    from depthtok.disk.files import require_writable
    from pipelines.device import choose
    from pipelines.train_vla import samples as stores
    from pipelines.train_vla.stores import Given
    from vla.data import dataset as data
    from vla.data.member import member
    from vla.evaluation.depth_expert import judge_depth, require_codes
    from vla.evaluation.report import depth_report
    from vla.serving.policy import load_model
    from vla.training import checkpoint

    where, place = choose(device), checkpoint.find(run)
    if out is not None:
        require_writable(out)
    state, config = checkpoint.read_state(place), checkpoint.read_config(place)
    require_codes(config.model.depth)
    # Whole images, and no word of actions, which are not looked at.
    config = config.updated({"data.crop": 1.0, "data.gripper": ""})
    given = Given.open(config, [episodes], [codes], [], codebook, source_root)
    if given.book.fingerprint != state.codebook:
        raise StaleStore(
            f"{codes} is of codebook {given.book.fingerprint[:12]}, {run} was trained on "
            f"{state.codebook[:12]}",
            remedy="tokenize the depth with the run's codebook",
        )
    config = stores.fit(config, given, camera)
    store = given.episodes[0]
    joined = member(
        store.about["dataset"], store, given.targets[0], config, codebook=given.book.fingerprint
    )
    dataset = data.Dataset([joined], config, checkpoint.read_tokenizer(place), augment=False)
    model = load_model(place, where)
    score = judge_depth(model, dataset, samples, stores.decoder(given.book, where), where)
    say(*words(run, store.about["dataset"], score.figures), json=json)
    if out is not None:
        page = depth_report(f"{run} on {codes}", score).write(out, "eval-depth")
        say(f"page: {page}", json=json)
    if json:
        result(score.figures)


def words(run: Path, dataset: str, figures: dict[str, float]) -> list[str]:
    """The score as text."""
    rows = (
        ("loss", "depth", "constant_depth"),
        ("code accuracy", "top1", "constant_top1"),
        ("decoded depth off by (share of the range)", "error", "constant_error"),
    )
    lines = [f"{run} on {figures['frames']} frames of {dataset}:"]
    lines += [
        f"  {title:<44}{figures[own]:>8.3f}   constant answer: {figures[other]:.3f}"
        for title, own, other in rows
    ]
    return [*lines, "(constant answer: each position's own statistics of these very frames)"]
