"""A code store as a publication: its parts as objects, and `store.json` last.

That is what `depthtok copy` makes of it too: a copy opens wherever a store is taken.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from depthtok.config import flat
from depthtok.copies.contents import Contents, Packed
from depthtok.copies.packed import object_name, packed_size
from depthtok.errors import CorruptPart, StoreError
from depthtok.stores.arrays import group_json
from depthtok.stores.codes import CodeStore
from depthtok.stores.failures import in_words, left_out
from depthtok.stores.lineage import EXPORT_OF, exported_from
from depthtok.stores.spec import COPY, StoreSpec
from depthtok.stores.store import Store
from depthtok.stores.verify import verify_store
from pipelines.provenance import estimator_of, said_with
from pipelines.push import card, licences
from pipelines.push.card import Card, MadeFrom, Rows
from pipelines.push.codebooks import quality_rows
from pipelines.push.outgoing import OutgoingBytes, OutgoingPart
from pipelines.push.publication import CODES, Publication

USE = "depthtok train-vla --episodes EPISODES --codes {url} --set codebook=CODEBOOK --out RUN"
USE_FROM_HUB = "depthtok train-vla --episodes EPISODES --codes {url} --out RUN"


def publication(path: Path, kind: str, stated: str, others: Mapping[str, Store]) -> Publication:
    """The code store at `path`, complete and verified. Raises `StoreError`, `MissingParts`,
    `CorruptPart`, `ConfigError`."""
    store = CodeStore(path)
    store.require_complete()
    damages = [finding for finding in verify_store(store.path) if not finding.note]
    if damages:
        raise CorruptPart(
            f"{damages[0].problem}" + (f" (and {len(damages) - 1} more)" if damages[1:] else ""),
            remedy=f"`depthtok verify {path} --repair`, then the command that made it again",
        )
    estimator = estimator_of(store, others)
    export_of = exported_from(store).get(EXPORT_OF, "")
    sources = [MadeFrom(store.dataset, store.spec.upstream, None, estimator, export_of)]
    said = [licence for source in sources for licence in source.licences]
    gate = store.about.get("gate")
    verdict = gate if isinstance(gate, Mapping) else {}
    failures = verdict.get("failures")
    warned = card.notices(
        sources,
        demo=bool(verdict.get("demo")),
        failures=[str(line) for line in failures] if isinstance(failures, list) else [],
    )
    published = _without_paths(store.spec)
    described = Card(
        title=f"Depth codes of {store.dataset}",
        summary=f"A grid of {'x'.join(map(str, store.grid))} depth codes for every frame of "
        f"{', '.join(store.cameras)}, to train a QDepth-VLA with. The images are not in it.",
        licence=licences.chosen(stated, said),
        tags=("depth", "tokens", "robotics"),
        kind=kind,
        use=USE_FROM_HUB if "codebook" in published.place else USE,
        sources=sources,
        notices=warned,
        tables={
            "What is in it": _contents(store),
            "Quality of the codebook": _quality(store),
            "How it was made": _making(store),
        },
        limits=[*_limits(store), *card.unknown_estimators(sources)],
    )
    root = OutgoingBytes(COPY, _root(store, published, said_with(estimator)).to_bytes())
    parts = [OutgoingPart(part) for part in store.parts()]
    return Publication(CODES, store.fingerprint, parts, [root], described, warned)


def _without_paths(spec: StoreSpec) -> StoreSpec:
    """The same store without the paths of this machine; what lies on the Hub stays named."""
    return replace(spec, place={k: v for k, v in spec.place.items() if v.startswith("hf://")})


def _root(store: Store, spec: StoreSpec, said: Mapping[str, str]) -> Contents:
    """What `store.json` says: parts, and the files `said` beside the root. What else lies there,
    such as the pages of `depthtok report`, has pictures and paths, and is no part of the codes."""
    packed = {}
    for part in store.parts():
        size = packed_size(part)
        if size is None:
            raise StoreError(
                f"{part.path} is too large for one object", remedy="`depthtok copy` it to a bucket"
            )
        packed[part.name] = Packed(object_name(part), size, part.digest)
    return Contents(group_json(spec.attributes()), packed, said)


def _contents(store: CodeStore) -> Rows:
    episodes = sum(len(part.frames) for part in store.parts())
    frames = sum(int(part.frames.sum()) for part in store.parts())
    failures = in_words(left_out(store))
    return [
        ("episodes", episodes),
        ("steps", frames),
        ("cameras", ", ".join(store.cameras)),
        ("codes", store.about.get("codes")),
        ("kind of depth", store.about.get("depth_kind")),
        ("image transform", json.dumps(store.transform.to_json())),
        ("left out", failures or "nothing"),
        ("fingerprint", store.fingerprint),
    ]


def _quality(store: CodeStore) -> Rows:
    try:
        return quality_rows(store.open_codebook())
    except (StoreError, OSError):
        return [("codebook", store.codebook), ("its figures", None)]


def _making(store: CodeStore) -> Rows:
    rows = [("command", f"depthtok {store.spec.stage}"), ("seed", "none: codes have no chance")]
    settings = {k: v for k, v in store.spec.what.items() if k not in ("estimator", "depth_what")}
    rows += [(name, str(value)) for name, value in flat(settings).items()]
    return [*rows, ("codebook", store.codebook), ("version of the stage", store.spec.stage_version)]


def _limits(store: CodeStore) -> list[str]:
    named = re.sub(r"\W+", " ", store.dataset).strip()
    return [
        f"For training with the images of {named} that the codes were made for: the frames are "
        "found by episode, and depthtok checks that they are those.",
        f"They mean something with the codebook {store.codebook[:16]} alone; give it by "
        "`--set codebook=`, as a directory or hf://OWNER/NAME.",
        "How true the depth behind them is, is unknown unless it is said above.",
    ]
