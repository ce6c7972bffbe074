"""The HTML report of a codebook: its reconstruction quality on some data, in figures and images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float32, UInt8

from depthtok.data import DepthKind
from depthtok.errors import SourceError, as_type
from depthtok.pages.colour import code_picture, colourise
from depthtok.pages.pictures import FrameRow, Picture
from depthtok.pages.report import Report
from depthtok.pages.scale import NORMALISED, ColourScale, even_bar
from depthtok.stores.codebook import Codebook
from vqvae.codec import Codec
from vqvae.quality.examples import Example, Examples
from vqvae.quality.gate import SIDES, judged
from vqvae.quality.quality import code_pictures

ERROR_SHOWN = 0.1  # share of the range; errors from here on get the hottest colour
ERRORS = even_bar("Error as a share of the clip's range", 0, 100 * ERROR_SHOWN, " %")
COLUMNS = (
    "mean error, share of the range (L1)",
    "edges found (F1)",
    "relative error (AbsRel)",
    "RMSE, m",
    "within a factor 1.25",
    "within a factor 1.05",
    "edges found in metres (F1)",
)


def build(
    codec: Codec,
    quality: Mapping,
    examples: Examples | None,
    *,
    dataset: str,
    own: Mapping | None = None,
) -> Report:
    """The report of a codebook with the figures `quality`, measured on the data named `dataset`.

    `own` are its figures on its own held-out episodes, for comparison with another data set.
    """
    book = codec.codebook
    page = Report("A codebook for depth" + (", on other data" if own else ""), str(book.path))
    page.numbers(_headline(quality))
    page.text(*_sentences(book, quality, dataset))
    rows = _error_rows(quality)
    if own:
        rows.append(("its own held-out episodes", *_errors(own)))
    page.table("Reconstruction errors", ("where", *COLUMNS), rows)
    page.table("The quality gate", ("figure", "measured", "needed", "verdict"), _gate(quality))
    page.table("Rate and distortion", *_rates(book, quality))
    if "codes" in quality:
        page.facts("Code usage", _usage(quality["codes"]))
        page.facts("Codes that change although the depth does not", _flips(quality))
        _usage_curve(page, np.asarray(quality["histogram"]))
    _pictures(page, examples)
    if codec.has_codes:
        _code_tiles(page, codec, np.asarray(quality["histogram"]), examples)
    if quality["failed"]:
        page.table("Skipped clips", ("episode", "camera", "why"), quality["failed"])
    for name, settings in _made(book).items():
        page.facts(f"Trained with: {name}", settings, folded=True)
    return page


def of_codebook(codec: Codec) -> Report:
    """The report from the codebook's own directory. Raises `SourceError` if it was never
    evaluated."""
    path, quality = codec.codebook.path, codec.codebook.quality
    if not quality:
        raise SourceError(
            f"{path} was never evaluated: there is nothing to report",
            remedy=f"evaluate it with `depthtok eval-vqvae {path} DEPTH --out DIR`",
        )
    side = "held-out" if quality.get("held_out") else "training"
    return build(codec, quality, Examples.load(path), dataset=f"its own {side} data")


def _headline(quality: Mapping) -> dict[str, object]:
    failures = [limit for limit in judged(quality) if not limit.met]
    figures: dict[str, object] = {"mean error (L1, share of the range)": quality["disparity"]["l1"]}
    if "metres" in quality:
        figures["relative error (AbsRel)"] = quality["metres"]["abs_rel"]
    figures["edges found (F1)"] = quality["disparity"]["edge_f1"]
    if "codes" in quality:
        figures["codes used"] = f"{quality['codes']['used']} of {quality['codes']['of']}"
        figures["perplexity of the codes"] = quality["codes"]["perplexity"]
    return {**figures, "quality gate": "passed" if not failures else f"failed: {len(failures)}"}


def _sentences(book: Codebook, quality: Mapping, dataset: str) -> Iterator[str]:
    yield (
        f"Evaluated on {dataset}: {quality['frames']:,} frames (episodes: {quality['episodes']}), "
        f"depth {'in metres' if quality['kind'] == 'metres' else 'as disparity without a unit'}. "
        "Every figure is over all pixels or cells, not a mean of means."
    )
    if failures := [limit.figure for limit in judged(quality) if not limit.met]:
        yield (
            f"Below the quality gate, so that no policy is trained on its codes: "
            f"{'; '.join(failures)}. The limits are below."
        )
    if book.demo:
        yield "This codebook is meant to demonstrate the pipeline, not to train policies on."
    if book.normalisation.name == "per_frame" and "metres" in quality:
        yield (
            "Figures in metres use each frame's true range, which codes do not keep: they cannot "
            "be computed from the codes alone."
        )
    if quality.get("sticky"):
        yield f"Sticky codes: kept while nearly as close (sticky {quality['sticky']})."


def require_shown(book: Codebook) -> None:
    """Raises `KeyError` or `TypeError` for a codebook whose description lacks what a page shows."""
    _made(book)
    if book.quality:
        _headline(book.quality)
        _error_rows(book.quality)


def _made(book: Codebook) -> dict[str, dict]:
    """The settings that a codebook was made with, by table."""
    names = ("network", "quantizer", "normalisation", "training")
    return {name: as_type(dict, book.meta[name]) for name in names}


def _errors(quality: Mapping) -> tuple:
    """The figures for one row, in the order of `COLUMNS`."""
    disparity, metres = quality["disparity"], quality.get("metres", {})
    in_metres = ("abs_rel", "rmse_m", "delta_1_25", "delta_1_05", "edge_f1")
    return disparity["l1"], disparity.get("edge_f1"), *(metres.get(name) for name in in_metres)


def _error_rows(quality: Mapping) -> list[tuple]:
    rows = [("everywhere", *_errors(quality))]
    regions = quality.get("regions", {})
    rows += [(f"on {name}", *_errors(figures)) for name, figures in regions.items()]
    rows.append(("everywhere, codes bypassed", *_errors({"disparity": quality["unquantised"]})))
    if twin := quality.get("continuous"):
        rows.append(("trained without codes", *_errors(twin)))
    if sticky := quality.get("with_sticky"):
        rows.append((f"sticky {sticky['sticky']}", *_errors(sticky)))
    return rows


def _gate(quality: Mapping) -> Iterator[tuple]:
    """Every limit: what it is of, the codebook's figure, what is needed, and whether it is met."""
    for limit in judged(quality):
        needed, verdict = f"{SIDES[limit.side]} {limit.limit:g}", "met" if limit.met else "missed"
        yield limit.figure, limit.value, needed, verdict


def _usage(codes: Mapping[str, object]) -> dict[str, object]:
    return {
        "codes used": f"{codes['used']} of {codes['of']}",
        "perplexity (as many equally frequent codes)": codes["perplexity"],
        "distinct codes in a frame (mean)": codes.get("distinct_per_frame"),
    }


def _flips(quality: Mapping) -> dict[str, object]:
    """How many of the cells in which nothing moves get another code in the next frame."""
    flips = quality.get("flips")
    if flips is None:
        return {"of the cells that stand still": "no camera stands still"}
    shares: dict[str, object] = {}
    for name, words in _STILL.items():
        shares[f"share {words}"] = flips.get(name)
        if "flips" in (sticky := quality.get("with_sticky", {})):
            shares[f"share {words}, sticky {sticky['sticky']}"] = sticky["flips"].get(name)
        shares[f"number {words}"] = flips.get(f"{name}_cells")
    return shares


_STILL = {"static": "of the cells that stand still", "far": "of those that are far from motion"}


def _rates(book: Codebook, quality: Mapping) -> tuple[Sequence[str], list[tuple]]:
    """Bits per frame and the resulting error: of codes, and of unquantised latents."""
    cells = math.prod(book.grid)
    float_bits = cells * 32 * book.meta["network"]["dim"]
    columns = ("a frame as", "bits", COLUMNS[0], COLUMNS[2])
    rows = []
    if "codes" in quality:
        bits = cells * math.log2(max(quality["codes"]["perplexity"], 1))
        rows = [
            ("codes, one byte each", cells * 8, *_l1_abs_rel(quality)),
            ("codes, entropy coded (at best)", round(bits), *_l1_abs_rel(quality)),
        ]
    rows.append(("the same latents, float32", float_bits, quality["unquantised"]["l1"], None))
    if twin := quality.get("continuous"):
        rows.append(("latents trained without codes, float32", float_bits, *_l1_abs_rel(twin)))
    return columns, rows


def _l1_abs_rel(quality: Mapping) -> tuple:
    return quality["disparity"]["l1"], quality.get("metres", {}).get("abs_rel")


def _usage_curve(page: Report, counts: np.ndarray) -> None:
    curve = {"cells": (np.arange(1, len(counts) + 1), np.sort(counts)[::-1])}
    labels = "codes, the most used first", "cells with that code"
    page.curves("How often each code occurs", curve, *labels, log=True)


def _pictures(page: Report, examples: Examples | None) -> None:
    if examples is None:
        page.text(
            "No example frames are stored with this codebook. `depthtok eval-vqvae CODEBOOK DEPTH` "
            "shows them for any depth.",
            title="Frames",
        )
        return
    for title, chosen in (("Frames", examples.spread), ("The worst frames", examples.worst)):
        if chosen:
            page.frames(title, map(_row, chosen), shown=2)


def _row(example: Example) -> FrameRow:
    """Ground truth, reconstruction, error and codes of a frame."""
    true, valid, codes = example.true, example.valid, example.codes
    scale, error = ColourScale(0.0, 1.0), np.abs(example.decoded - true)
    red = colourise(error, DepthKind.DISPARITY, 0, ERROR_SHOWN, valid)
    pictures = [
        Picture(scale.paint_disparity(true, valid), "depth"),
        Picture(scale.paint_disparity(example.decoded), "decoded from its codes"),
        Picture(red, f"error, mean {example.l1:.4f} of the range"),
    ]
    if codes is not None:
        cell = true.shape[0] // codes.shape[0]
        words = f"{len(np.unique(codes))} distinct codes"
        pictures.append(Picture(code_picture(codes, cell), words, exact=True))
    return FrameRow(f"{example.clip}, frame {example.frame}", pictures, [NORMALISED, ERRORS])


def _code_tiles(page: Report, codec: Codec, counts: np.ndarray, examples: Examples | None) -> None:
    """One image per code: the mean of the cells with that code, else what it decodes to."""
    order = np.argsort(-counts, kind="stable")
    tiles = code_pictures(codec)
    caption = "Each code decoded in a patch of the same code; near is bright"
    if examples is not None and examples.cells is not None:
        occurring = ~np.isnan(examples.cells).any(axis=(1, 2))
        tiles[occurring] = examples.cells[occurring]
        caption = "The mean of the cells with each code; near is bright"
    if unused := int((counts == 0).sum()):
        caption += f"; the last {unused} did not occur"
    large = np.repeat(np.repeat(np.clip(tiles[order], 0, 1), 2, axis=1), 2, axis=2)
    page.pictures(
        "All codes, most used first", [Picture(sheet(large), caption, exact=True)], columns=1
    )


def sheet(tiles: Float32[np.ndarray, "K c c"], columns: int = 16) -> UInt8[np.ndarray, "H W"]:
    """Grey tiles in rows, with a one-pixel black border around each."""
    count, side, _ = tiles.shape
    rows = -(-count // columns)
    padded = np.zeros((rows * columns, side + 2, side + 2), np.float32)
    padded[:count, 1:-1, 1:-1] = tiles
    grid = padded.reshape(rows, columns, side + 2, side + 2).swapaxes(1, 2)
    return np.rint(255 * grid.reshape(rows * (side + 2), columns * (side + 2))).astype(np.uint8)
