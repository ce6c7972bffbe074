"""What `inspect` says of data: RLDS data sets, and stores."""

from __future__ import annotations

from pathlib import Path

from depthtok.errors import SchemaError
from depthtok.format import human_bytes
from depthtok.log import typed
from depthtok.sources.draft import describe
from depthtok.sources.opening import open_files
from depthtok.sources.rlds import RldsDirectory
from depthtok.sources.sampled_draft import files_draft, rlds_draft
from depthtok.sources.schema import Schema
from depthtok.stores import instructions
from depthtok.stores.codes import CodeStore
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.lineage import outdated
from depthtok.stores.store import Store
from pipelines.convert.description import own_schema
from pipelines.depth.single_frames.figures import steadied_in_words
from pipelines.inspect import column_tables
from pipelines.inspect.facts import Summary


def inspect_mixture(stores: list[EpisodeStore]) -> Summary:
    """Data sets drawn so that every step is equally likely: what they differ in, and statistics of
    the columns that mean the same in all."""
    summary = Summary(f"Mixture of {len(stores)} data sets, every step equally likely")
    episodes, steps = sum(map(len, stores)), sum(store.steps for store in stores)
    summary.facts.update({"episodes": f"{episodes:,}", "steps": f"{steps:,}"})
    summary.tables.update(column_tables.of_mixture(stores))
    return summary


def of_rlds(rlds: RldsDirectory) -> Summary:
    summary = Summary(f"RLDS data set {rlds.name} {rlds.version} in {rlds.path}")
    for split in rlds.splits.values():
        absent = [shard.path.name for shard in split.shards if shard.state == "absent"]
        summary.facts[f"split {split.name}"] = (
            f"{split.episodes:,} episodes in {len(split.shards):,} shards, "
            f"{human_bytes(split.num_bytes)}"
            + (f"; {len(absent):,} are not there (first: {absent[0]})" if absent else "")
        )
    if rlds.notes:
        summary.facts["files"] = "; ".join(rlds.notes)
    columns = ("feature", "kind", "dtype", "shape", "per")
    summary.tables["Features"] = (columns, describe(rlds.features))
    schema = Schema.find(rlds.name)
    if brought := own_schema(rlds.path):
        summary.facts["its own schema"] = f"{brought}: look at it, and give it with --schema"
    if schema is None:
        summary.facts["schema"] = "none is shipped for this name; a draft is below"
        summary.text = _draft(rlds)
        return summary
    try:
        fitted = schema.fitted(rlds.features, rlds.name)
        summary.facts["schema"] = f"{schema.name} ({schema.status}), fits"
        summary.facts["cameras"] = ", ".join(
            camera.name + (" (with depth)" if camera.depth_key else "") for camera in fitted.cameras
        )
        summary.facts["rate"] = f"{fitted.fps:g} Hz" if fitted.fps else "not known"
        summary.facts["action"] = ", ".join(fitted.action_dims)
        summary.facts["proprio"] = ", ".join(fitted.proprio_dims) or "none"
        if fitted.unknown:
            summary.facts["not stated"] = "; ".join(fitted.unknown)
    except SchemaError as error:
        summary.facts["schema"] = f"{schema.name} does not fit: {error.problem}"
        summary.text = _draft(rlds)
    return summary


def schema_draft(path: Path) -> str:
    """A schema draft of a data set, as TOML. Raises `SchemaError` where none can be made."""
    if (files := open_files(path)) is not None:
        return files_draft(files)
    rlds = RldsDirectory.open(path)
    return rlds_draft(rlds)


def _draft(rlds: RldsDirectory) -> str:
    try:
        text = rlds_draft(rlds)
    except SchemaError as error:
        return str(error)
    return (
        f"# A draft; `{typed('inspect', rlds.path, '--draft')} > my.toml` saves it. Check it, then "
        f"convert with --schema my.toml.\n{text}"
    )


def of_store(store: Store) -> Summary:
    missing, failures = store.missing(), store.failures()
    parts = list(store.parts())
    summary = Summary(f"Store of {store.spec.type} in {store.path}")
    summary.facts |= {
        "made by": f"depthtok {store.spec.stage}",
        "data set": store.about.get("dataset", "-"),
        "fingerprint": store.fingerprint[:16],
        "parts": f"{len(parts)}" + (f", {len(missing)} missing" if missing else ", complete"),
        "episodes": f"{sum(len(part.frames) for part in parts):,}",
        "steps": f"{sum(int(part.frames.sum()) for part in parts):,}",
        "size": human_bytes(store.files_bytes()),
        "failed": len(failures),
    }
    if isinstance(store, EpisodeStore) and store.left_out:
        reasons = (f"{count:,} ({reason})" for reason, count in store.left_out.items())
        summary.facts["left out by the schema"] = ", ".join(reasons)
    summary.facts.update(_typed(store))
    summary.facts.update(_absent(store))
    if lines := outdated(store):
        summary.facts["out of date"] = "; ".join(lines)
    if isinstance(store, EpisodeStore) and (figures := store.stored_statistics()):
        summary.tables.update(column_tables.of_store(store, figures))
    if failures:
        rows = [(str(f.key), f.stage, f.reason) for f in failures[:50]]
        summary.tables["Failed episodes"] = (("episode", "stage", "reason"), rows)
    return summary


def _weights(store: DepthStore) -> dict[str, str]:
    """Which network the weights are of and how that is known, where a network made the depth."""
    if not store.estimator.get("weights"):
        return {}
    return {"weights": store.spec.place.get("weights", "not recorded: made before that was kept")}


def _absent(store: Store) -> dict[str, object]:
    """What the store knows of cameras that episodes do not have."""
    counts = [f"{name} in {count} episodes" for name, count in store.absent_counts().items()]
    texts = [", ".join(counts)] if counts else []
    if not store.knows_absent:
        texts.append("not known")
    return {"absent": "; ".join(texts)} if texts else {}


def _typed(store: Store) -> dict[str, object]:
    """The facts that only one type of store has."""
    if isinstance(store, EpisodeStore):
        return {
            "cameras": ", ".join(
                f"{c.name} {c.height}x{c.width}" + (" with depth" if c.has_depth else "")
                for c in store.cameras.values()
            ),
            "action": f"{store.action_dim}: {', '.join(store.action_names)}",
            "proprio": f"{store.proprio_dim}: {', '.join(store.proprio_names) or 'none'}",
            "rate": f"{store.fps:g} Hz" if store.fps else "not known",
            "gripper": store.meaning.gripper_in_words,
            "not known": ", ".join(store.meaning.unknown) or "nothing",
            "instructions": instructions.read(store).line(),
            "images in": store.source_root,
        }
    if isinstance(store, DepthStore):
        return {
            "kind": store.kind_in_words,
            "estimator": store.estimator["name"],
            **_weights(store),
            **steadied_in_words(store),
            "cameras": ", ".join(store.cameras),
            "pixels": f"{store.size[0]}x{store.size[1]}, stored as {store.encoding.value} "
            f"(error: {store.encoding.error})",
        }
    if not isinstance(store, CodeStore):
        return {}
    return {
        "codebook": store.codebook[:16],
        "grid": f"{store.grid[0]}x{store.grid[1]} of {store.about['codes']} codes",
        "cameras": ", ".join(store.cameras),
    }
