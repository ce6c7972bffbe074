"""A policy as a publication: one checkpoint of a run without its optimiser, with the run's logs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from depthtok.config import digest, flat
from depthtok.errors import CorruptPart
from depthtok.json_values import JsonObject
from depthtok.stores.lineage import EXPORT_OF
from depthtok.stores.store import Store
from pipelines.provenance import DEPTH, VERSIONS, estimator_of
from pipelines.push import card, licences
from pipelines.push.card import Card, MadeFrom, Rows
from pipelines.push.outgoing import Outgoing, OutgoingBytes, OutgoingFile
from pipelines.push.publication import POLICY, Publication
from pipelines.train_vla import checks
from vla.config import Config
from vla.training import checkpoint, for_acting, soundness
from vla.training.checkpoint import TrainingState
from vla.training.runlog import METRICS

NO_ESTIMATOR = {"name": "none", "licence": "none", "weights": "none"}  # no depth is learnt
USE = "depthtok serve {url} --port 8000\ndepthtok eval {url} --suite libero_object --out EVAL"


def publication(path: Path, kind: str, stated: str, others: Mapping[str, Store]) -> Publication:
    """The newest checkpoint of the run at `path`, or the checkpoint there, verified. Raises
    `WeightsError`, `CorruptPart`, `ConfigError`."""
    damages = [finding for finding in soundness.findings(path) if not finding.note]
    if damages:
        raise CorruptPart(
            damages[0].problem,
            remedy="name a sound checkpoint of the run (RUN/checkpoints/step-...), or train on",
        )
    folder = checkpoint.find(path)
    state, config = checkpoint.read_state(folder), checkpoint.read_config(folder)
    sources = made_from(state, others)
    notes = dict(state.notes or {})
    said = [licence for source in sources for licence in source.licences]
    failures = [str(line) for line in notes.get("gate_overridden") or ()]
    demo = any(about.get("demo") for about in _by_data_set(notes).values())
    warned = card.notices(sources, demo=demo, failures=failures)
    described = Card(
        title=f"QDepth-VLA policy of {', '.join(source.name for source in sources)}",
        summary=f"A vision-language-action policy, trained for {state.step:,} steps: images, "
        "proprioception and an instruction in, a chunk of actions out.",
        licence=licences.chosen(stated, said),
        tags=("vla", "imitation-learning", "depth"),
        kind=kind,
        use=USE,
        sources=sources,
        notices=warned,
        tables={
            "Figures of its training": _figures(folder, state),
            "What its numbers mean": _meanings(state),
            "How it was made": _making(state, config, notes),
        },
        limits=[*_limits(state), *card.unknown_estimators(sources)],
    )
    files: list[Outgoing] = [
        OutgoingFile(name, content) if isinstance(content, Path) else OutgoingBytes(name, content)
        for name, content in for_acting.files(folder).items()
    ]
    identity = digest(checkpoint.weights_sha256(folder))
    return Publication(POLICY, identity, (), files, described, warned)


def made_from(state: TrainingState, others: Mapping[str, Store]) -> list[MadeFrom]:
    """The data sets of a training, with what it noted of their depth."""
    notes = state.notes or {}
    noted = _by_data_set(notes)
    without_depth = VERSIONS in notes and not noted  # it would have been noted
    sources = []
    for name, fingerprint, weight, *_ in state.data or ():
        estimator = NO_ESTIMATOR if without_depth else noted.get(name, {}).get("estimator")
        if not isinstance(estimator, Mapping):
            behind = [s for s in others.values() if fingerprint in _upstreams(s, others)]
            estimator = next((e for e in (estimator_of(s, others) for s in behind) if e), None)
        export_of = str(noted.get(name, {}).get(EXPORT_OF, ""))
        sources.append(MadeFrom(name, fingerprint, weight, estimator, export_of))
    return sources


def _by_data_set(notes: JsonObject) -> dict[str, JsonObject]:
    """What a run noted of the depth of each data set."""
    noted = notes.get(DEPTH)
    tables = noted if isinstance(noted, Mapping) else {}
    return {name: about for name, about in tables.items() if isinstance(about, Mapping)}


def _upstreams(store: Store, others: Mapping[str, Store]) -> list[str]:
    """The fingerprints of what a store was made from, as far as `others` lead."""
    chain = [store.spec.upstream]
    while (source := others.get(chain[-1])) is not None and source.spec.upstream not in chain:
        chain.append(source.spec.upstream)
    return chain


def _figures(folder: Path, state: TrainingState) -> Rows:
    """The newest figures of the log up to the checkpoint's step."""
    run = for_acting.run_of(folder)
    lines = soundness.read_log(run, METRICS) if run else []
    upto = [line for line in lines if line.get("step", 0) <= state.step]
    last = {name: value for line in upto for name, value in line.items()}
    rows: list[tuple[str, object]] = list(last.items())
    return [*rows, ("success in a simulator or on a robot", None)]


def _meanings(state: TrainingState) -> Rows:
    rows: list[tuple[str, object]] = []
    for name, meaning in state.meanings.items():
        for side in ("action", "proprio"):
            columns = ", ".join(map(str, getattr(meaning, side)))
            rows.append((f"{side} of {name}", columns or "none"))
        rows += [(f"gripper of {name}", meaning.gripper), (f"rate of {name}, Hz", meaning.fps)]
        ways = state.orientations.get(name, {}).items()
        rows.append((f"orientation of {name}", ", ".join(f"{c}: {way}" for c, way in ways) or None))
    return rows


def _making(state: TrainingState, config: Config, notes: JsonObject) -> Rows:
    weights, held = notes.get("weights"), notes.get("held_out")
    rows: list[tuple[str, object]] = [
        ("command", "depthtok train-vla"),
        ("seed", config.train.seed),
        ("steps", state.step),
        ("began from the weights", weights if weights or "weights" not in notes else "none"),
        ("codebook", state.codebook or "none"),
        ("episodes", "; ".join(checks.words(held if isinstance(held, dict) else None)) or None),
    ]
    noted = notes.get(VERSIONS)
    versions = noted if isinstance(noted, Mapping) else {"python": None, "torch": None}
    rows += [(f"version of {name}", number) for name, number in versions.items()]
    for name, about in _by_data_set(notes).items():
        origins = [what for what in ("codes", "depth", "codebook") if what in about]
        rows += [(f"{what} of {name}", about[what]) for what in origins]
    usual, used = flat(Config().to_json()), flat(config.to_json())
    return [*rows, *((n, str(v)) for n, v in used.items() if v != usual.get(n))]


def _limits(state: TrainingState) -> list[str]:
    names = ", ".join(name for name, *_ in state.data or ()) or "data that are not known"
    return [
        f"For robots, cameras and tasks like those of {names}: actions are in the units of that "
        "data set, and nothing keeps them from being wrong. Try it in a simulator first, and on a "
        "robot with a hand on the stop.",
        "Success rates are unknown unless they are said above: `depthtok eval` measures them in "
        "LIBERO.",
        "Training cannot go on from it (the optimiser is left out); another one can start from "
        "it: `depthtok train-vla --weights`.",
    ]
