"""A codebook as a publication."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from depthtok.config import flat
from depthtok.json_values import JsonObject
from depthtok.stores.codebook import META, WEIGHTS, Codebook
from depthtok.stores.lineage import EXPORT_OF, exported_from
from depthtok.stores.store import Store
from pipelines.provenance import estimator_of
from pipelines.push import card, licences
from pipelines.push.card import Card, MadeFrom, Rows
from pipelines.push.outgoing import OutgoingFile
from pipelines.push.publication import CODEBOOK, Publication
from vqvae.quality.examples import FILE as EXAMPLES
from vqvae.quality.examples import Examples
from vqvae.quality.gate import shortfalls

USE = "depthtok tokenize DEPTH --codebook {url} --out CODES"


def publication(path: Path, kind: str, stated: str, others: Mapping[str, Store]) -> Publication:
    """The codebook at `path`, verified, for a repository of this kind; `stated` is its licence.
    Raises `WeightsError`, `CorruptPart`, `ConfigError`."""
    book = Codebook.load(path)
    Examples.load(book.path)
    sources = made_from(book, others)
    said = [licence for source in sources for licence in source.licences]
    notices = card.notices(sources, demo=book.demo, failures=shortfalls(book.quality))
    grid = "x".join(map(str, book.grid))
    described = Card(
        title=f"Depth codebook of {len(book.vectors)} codes",
        summary=f"A VQ-VAE that turns depth of {book.size[0]}x{book.size[1]} px into a grid of "
        f"{grid} codes and back, as QDepth-VLA uses it.",
        licence=licences.chosen(stated, said),
        tags=("vq-vae", "depth", "tokenizer"),
        kind=kind,
        use=USE,
        sources=sources,
        notices=notices,
        tables={"Quality": quality_rows(book), "How it was made": _making(book)},
        limits=_limits(book, sources),
    )
    names = [EXAMPLES, WEIGHTS, META]
    present = [name for name in names if (book.path / name).is_file()]
    files = [OutgoingFile(name, book.path / name) for name in present]
    return Publication(CODEBOOK, book.fingerprint, (), files, described, notices)


def made_from(book: Codebook, others: Mapping[str, Store]) -> list[MadeFrom]:
    """What a codebook says that it learnt from."""
    sources = []
    for row in book.meta.get("data", {}).get("sources", ()):
        noted = row.get("estimator")
        store = others.get(row["fingerprint"])
        estimator = noted if isinstance(noted, Mapping) else estimator_of(store, others)
        export_of = exported_from(store).get(EXPORT_OF, "") if store else ""
        source = row["name"], row["fingerprint"], row.get("weight"), estimator
        sources.append(MadeFrom(*source, export_of))
    return sources


def quality_rows(book: Codebook) -> Rows:
    """The figures of a codebook's last evaluation."""
    quality: JsonObject = book.quality
    if not quality:
        return [("evaluation", None)]
    held_out = {True: "held-out", False: "training"}.get(book.quality.get("held_out", ""), "other")
    rows: list[tuple[str, object]] = [
        ("kind of depth", quality["kind"]),
        (f"frames of {held_out} episodes", quality.get("frames")),
        (f"{held_out} episodes", quality.get("episodes")),
    ]
    for name in ("disparity", "metres", "codes", "flips"):
        table = quality.get(name)
        if isinstance(table, Mapping):
            rows += [(f"{name}: {figure}", value) for figure, value in table.items()]
    verdict = shortfalls(book.quality)
    return [*rows, ("quality gate", "missed" if verdict else "passed")]


def _making(book: Codebook) -> Rows:
    meta = book.meta
    training = meta.get("training", {})
    rows: list[tuple[str, object]] = [
        ("command", "depthtok train-vqvae"),
        ("seed", training.get("seed")),
        ("steps", training.get("steps")),
        ("frames learnt from", meta.get("data", {}).get("frames")),
        ("fingerprint", book.fingerprint),
        ("SHA-256 of its weights", meta["weights_sha256"]),
    ]
    settings = {name: meta.get(name, {}) for name in ("network", "quantizer", "normalisation")}
    rows += list(flat({**settings, "training": training}).items())
    return [*rows, *(((f"version of {k}"), v) for k, v in meta.get("versions", {}).items())]


def _limits(book: Codebook, sources: list[MadeFrom]) -> list[str]:
    lines = [
        "For turning depth of robot episodes into codes that a policy is trained on, and for "
        "looking at such codes. Depth is normalised clip by clip: codes say nothing of metres by "
        "themselves.",
        "Codes belong to the codebook that made them: those of this one carry the fingerprint "
        f"{book.fingerprint[:16]}, and depthtok refuses others.",
        "How well it does on other cameras, robots or estimators than those above is unknown: "
        "`depthtok eval-vqvae` says it of your depth.",
    ]
    lines += card.unknown_estimators(sources)
    if not book.quality:
        lines.append("It was never evaluated: its quality is unknown.")
    return lines
