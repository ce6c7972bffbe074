"""A trained depth expert on another data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from depthtok.api.flags import Device, SourceRoot
from depthtok.api.parameters import Positional
from depthtok.errors import StaleStore


@dataclass(frozen=True)
class DepthEvaluation:
    """The depth expert's figures on a data set, beside those of a constant answer."""

    run: Path
    dataset: str
    figures: dict[str, float]
    page: Path | None = None


def eval_depth(
    run: Annotated[Path, Positional("RUN", "a training run, or one of its checkpoints")],
    episodes: Annotated[Path, "an EpisodeStore"],
    codes: Annotated[Path, "its CodeStore, of the run's codebook"],
    codebook: Annotated[Path | None, "the codes' codebook, if it has moved"] = None,
    camera: Annotated[list[str] | None, "names of the run's cameras here, in their order"] = None,
    samples: Annotated[int, "frames to score"] = 512,
    out: Annotated[Path | None, "also write a page with images here"] = None,
    source_root: SourceRoot = None,
    device: Device = "auto",
) -> DepthEvaluation:
    """Evaluate a policy's depth expert on another data set.

    Its figures stand beside those of a constant answer that ignores the image. Codes of another
    codebook than the run's are refused.

    Example: depthtok eval-depth runs/policy --episodes runs/other/episodes --codes runs/other/codes
    """
    from depthtok.disk.files import require_writable
    from pipelines.device import choose
    from pipelines.train_vla import samples as stores
    from pipelines.train_vla.stores import OpenStores
    from vla.data.dataset import Dataset
    from vla.data.member import member
    from vla.evaluation.depth_expert import evaluate_depth, require_codes
    from vla.evaluation.report import depth_report
    from vla.serving.policy import load_model
    from vla.training import checkpoint
    from vqvae.codec import Codec

    device, path = choose(device), checkpoint.find(run)
    if out is not None:
        require_writable(out)
    state, config = checkpoint.read_state(path), checkpoint.read_config(path)
    require_codes(config.model.depth)
    # Whole images, and no word of actions, which are not looked at.
    config = config.updated({"data.crop": 1.0, "data.gripper": ""})
    opened = OpenStores.open(config, [episodes], [codes], [], codebook, source_root)
    book = opened.book
    if book is None or book.fingerprint != state.codebook:
        other = book.fingerprint[:12] if book else "unknown"
        raise StaleStore(
            f"{codes} is of codebook {other}, {run} was trained on {state.codebook[:12]}",
            remedy="tokenize the depth with the run's codebook",
        )
    config = stores.fit(config, opened, camera)
    store = opened.episodes[0]
    name = str(store.about["dataset"])
    joined = member(name, store, opened.targets[0], config, codebook=book.fingerprint)
    dataset = Dataset([joined], config, checkpoint.read_tokenizer(path), augment=False)
    model, decode = load_model(path, device), Codec.load(book.path, device).decode
    score = evaluate_depth(model, dataset, samples, decode, device)
    page = None
    if out is not None:
        page = depth_report(f"{run} on {codes}", score).write(out, "eval-depth")
    return DepthEvaluation(run, name, score.figures, page)
