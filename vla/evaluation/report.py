"""HTML reports of a training run, of predicted depth and of an attention mask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from depthtok.config import flat
from depthtok.held_out import BEFORE, GIVEN, KEYED
from depthtok.meaning import Column, Meaning
from depthtok.pages.pictures import FrameRow, Picture
from depthtok.pages.report import Report
from depthtok.pages.scale import NORMALISED, ColourScale
from depthtok.stores.failures import in_words
from vla.data.normalise import Scale
from vla.data.prompts import Prompts
from vla.evaluation.depth_expert import DepthScore
from vla.evaluation.depth_view import SHOWN, DepthView
from vla.evaluation.words import words_of
from vla.model.masks import BLOCKS
from vla.model.proof import Proof
from vla.training import checkpoint
from vla.training.runlog import METRICS
from vla.training.soundness import read_log, settings

HEADLINE = {  # name in metrics.jsonl: what it is called
    "step": "updates",
    "flow": "action (flow) loss",
    "depth": "depth loss",
    "val_action_mse": "held-out action error (MSE)",
    "val_action_within_0.1": "held-out actions within 0.1",
    "val_depth_top1": "held-out code accuracy",
    "val_depth_error": "held-out depth error (share of the range)",
    "samples_per_s": "samples per second",
}
ACTION_ERRORS = "val_action_mse", "val_action_mse_shuffled"
WITHIN = tuple(f"val_action_within_{t}" for t in (0.05, 0.1, 0.2, 0.3, 0.5))
CURVES = {  # title: names in metrics.jsonl, y label, logarithmic
    "Losses": (("loss", "flow", "depth"), "loss", True),
    "Action error on held-out episodes": (ACTION_ERRORS, "mean squared error, normalised", False),
    "Held-out actions near the truth": (WITHIN, "share of the actions", False),
    "Depth on held-out episodes": (("depth", "val_depth"), "loss (nats, of codes)", False),
    "Decoded depth on held-out episodes": (
        ("val_depth_error",),
        "mean error, share of the range",
        False,
    ),
    "Accuracy of predicted depth codes": (
        ("depth_top1", "val_depth_top1"),
        "share of the codes",
        False,
    ),
    "Gradient norms of the losses at SigLIP": (("grad_flow", "grad_depth"), "gradient norm", True),
    "Learning rate": (("lr",), "learning rate", False),
    "Samples per second": (("samples_per_s",), "samples/s", False),
    "Time spent waiting for data": (("data_wait",), "share of the time", False),
    "Time of a validation": (("validate_s",), "s", False),
    "Share of the GPUs' peak (MFU)": (("mfu",), "share of the peak", False),
}
PREDICTED = {
    "frames": "frames",
    "depth": "depth loss",
    "top1": "share of depth codes predicted right",
    "error": "error of decoded depth (share of the range)",
}
RULES = {
    KEYED: "by the digest of an episode's key",
    GIVEN: "as the caller said",
    BEFORE: "that of former versions",
}
MASK_PIXELS = 640
COLOURS = (86, 180, 233), (0, 158, 115), (230, 159, 0), (204, 121, 167), (240, 228, 66)


def run_report(run: str | Path) -> Report:
    """Curves, predicted depth and settings of a training run."""
    run = Path(run)
    lines = read_log(run, METRICS)
    page = Report("Training of a QDepth-VLA", str(run))
    if lines:
        last = _last(lines)
        page.numbers({heading: last[name] for name, heading in HEADLINE.items() if name in last})
    for title, (names, label, log) in CURVES.items():
        series = {words_of(name): _line(lines, name) for name in names}
        series = {words: line for words, line in series.items() if line[0]}
        if series:
            page.curves(title, series, "updates", label, log=log)
    view = DepthView.find(run)
    if view is not None:
        page.text(
            "Held-out frames at the last validation: the image, the ground-truth depth at the "
            "target's resolution, and the depth expert's prediction.",
            title="Predicted and ground-truth depth",
        )
        page.frames("Frames", list(_views(view)), shown=2)
    if checkpoint.steps(run):
        _origin(page, checkpoint.read_state(checkpoint.find(run)))
    if lines:
        newest = {words_of(name): value for name, value in last.items()}
        page.facts("Newest value of every figure", newest, folded=True)
    return page.facts("Settings", flat(settings(run).to_json()), folded=True)


def _origin(page: Report, state: checkpoint.TrainingState) -> None:
    """Adds what a training run started from: data, weights, codebook."""
    notes = state.notes or {}
    if overridden := notes.get("gate_overridden"):
        title = "The codebook failed the quality gate, which was overridden"
        page.text(*overridden, title=title, folded=True)
    for name, stages in (notes.get("left_out") or {}).items():
        page.text(f"{name}: {in_words(stages)}.", title="Failed episodes")
    rows = [(name, key[:12], weight, size) for name, key, weight, size, *_ in state.data or ()]
    page.table("Data", ("data set", "fingerprint", "weight", "samples"), rows)
    if noted := notes.get("instructions"):
        _prompts(page, Prompts.from_json(noted))
    else:
        page.text("Not known: an older depthtok did not look.", title="Instructions")
    for name, norms in state.norms.items():
        spread, meaning = notes.get("spread", {}).get(name, {}), state.meanings.get(name)
        for side, heading in (("action", "actions"), ("proprio", "states")):
            page.table(
                f"Normalisation of {name}: {heading}",
                ("column", "becomes -1", "becomes 1", "note"),
                list(_columns(getattr(norms, side), meaning, side, spread.get(side, {}))),
                folded=True,
            )
    if state.meanings:
        rates = {
            name: f"{meaning.gripper_in_words}; "
            + (f"{meaning.fps:g} Hz" if meaning.fps else "rate not known")
            for name, meaning in state.meanings.items()
        }
        page.facts("Gripper and rate", rates)
    if split := notes.get("held_out"):
        in_codebook = _or_not_known(split.get("in_codebook"))
        counts = {
            "held out": split["episodes"],
            "learnt from": split["learnt_from"],
            "held out, but the codebook was trained on them": in_codebook,
            "rule": RULES.get(split["rule"], split["rule"]),
        }
        page.facts("Held-out episodes", counts)
    weights, codes = notes.get("weights"), state.codebook
    page.text(
        f"From {weights or 'fresh weights'}; "
        + (f"depth codes of the codebook {codes[:12]}." if codes else "without depth codes."),
        title="Starting point",
    )


def _prompts(page: Report, prompts: Prompts) -> None:
    """Adds what the model reads of the instructions."""
    page.text(
        f"{prompts.line()}. Tokenizer: {prompts.tokenizer} ({prompts.sha256[:12]}).",
        *prompts.warnings(),
        title="Instructions",
    )
    columns = ("data set", "episodes", "distinct", "cut", "equal to another", "episodes without")
    rows = [(m.name, m.episodes, m.distinct, m.cut, m.equal, m.empty) for m in prompts.members]
    page.table("Instructions by data set", columns, rows)
    if prompts.cut_texts:
        page.text(*prompts.cut_texts, title="Instructions that are cut, some of them")
    for number, group in enumerate(prompts.equal_texts, 1):
        page.text(*group, title=f"Instructions that become one prompt, group {number}")


def _or_not_known(number: int | None) -> int | str:
    return "not known" if number is None else number


def _columns(
    scale: Scale, meaning: Meaning | None, side: str, notes: Mapping[str, str]
) -> Iterator[tuple]:
    """How each column is normalised, and what is unusual in it."""
    columns = getattr(meaning, side) if meaning else [Column(f"{n}") for n in range(len(scale.low))]
    for index, column in enumerate(columns):
        if index in scale.keep:
            yield str(column), "-", "-", "not normalised"
        else:
            yield str(column), scale.low[index], scale.high[index], notes.get(column.name, "")


def depth_report(title: str, score: DepthScore) -> Report:
    """A depth expert's figures and predictions on a data set."""
    page = Report("Predicted depth", title)
    page.numbers({words: score.figures[name] for name, words in PREDICTED.items()})
    page.table(
        "Beside the best answer that ignores the image",
        ["figure", "predicted", "one answer for each position"],
        [
            [words, score.figures[name], score.figures[f"constant_{name}"]]
            for name, words in PREDICTED.items()
            if f"constant_{name}" in score.figures
        ],
    )
    if score.view is not None:
        page.frames("Frames", list(_views(score.view)))
    return page


def _last(lines: list[dict[str, float]]) -> dict[str, float]:
    """The latest value of every figure."""
    return {name: value for line in lines for name, value in line.items()}


def _line(lines: list[dict[str, float]], name: str) -> tuple[list[float], list[float]]:
    points = [(line["step"], line[name]) for line in lines if name in line]
    return [step for step, _ in points], [value for _, value in points]


def _views(view: DepthView) -> Iterator[FrameRow]:
    side, scale = view.image.shape[1], ColourScale(0.0, 1.0)
    for row, (image, error) in enumerate(zip(view.image[:SHOWN], view.errors(), strict=False)):
        pictures = [Picture(image, "camera image")]
        for name, values in (("ground-truth", view.truth[row]), ("predicted", view.predicted[row])):
            pixels = scale.paint_disparity(values)
            picture = Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)
            caption = f", error {error:.3f} of the range" if name == "predicted" else ""
            pictures.append(Picture(np.asarray(picture), f"{name} depth{caption}"))
        yield FrameRow(f"Frame {row + 1}", pictures, [NORMALISED])


def mask_report(name: str, proof: Proof) -> Report:
    """The mask of a configuration: its table, its picture, and the measurements."""
    violations = proof.violations()
    page = Report("An attention mask, drawn and verified", name)
    page.numbers({"violations": len(violations), "tokens": proof.visible.shape[0]})
    page.text(
        "Rows attend to columns. x: the whole block; \\: tokens up to the query's own position; "
        ".: nothing.",
        title="Which block attends to which",
    )
    columns = ["", *proof.gradient]
    page.table("The table", columns, _rows(proof, proof.table.cells))
    page.pictures(
        "Token by token",
        [Picture(mask_picture(proof), _mask_words(proof), exact=True)],
        1,
    )
    page.text(
        "The largest gradient of any output of the row with respect to any input of the column, "
        "through all layers, in float64: exactly zero where the column must have no influence.",
        title="Measured influence",
    )
    page.table("Largest gradient", columns, _rows(proof, proof.gradient))
    page.table("Share of the attention in one forward pass", columns, _rows(proof, proof.attention))
    page.text(*(violations or ["Nothing contradicts the table."]), title="Violations")
    return page


def _mask_words(proof: Proof) -> str:
    counts = ", ".join(f"{name} ({count})" for name, count in proof.blocks.items())
    return f"bright: the row attends to the column; both from the first token to the last: {counts}"


def _rows(proof: Proof, cells: Mapping[str, Mapping[str, Any]]) -> list[list[Any]]:
    return [[query, *(cells[query][key] for key in proof.gradient)] for query in proof.gradient]


def mask_picture(proof: Proof) -> UInt8[np.ndarray, "H W 3"]:
    """What every token attends to: one colour per block of keys, white lines between blocks."""
    colours = np.array(COLOURS, np.uint8)
    owner = np.concatenate(
        [np.full(count, BLOCKS.index(name)) for name, count in proof.blocks.items()]
    )
    pixels = np.where(proof.visible[..., None], colours[owner][None], np.uint8(38))
    cell = max(1, MASK_PIXELS // len(owner))
    pixels = np.repeat(np.repeat(pixels, cell, axis=0), cell, axis=1)
    for end in np.cumsum(list(proof.blocks.values()))[:-1] * cell:
        pixels[end - 1 : end + 1] = pixels[:, end - 1 : end + 1] = 255
    return pixels
