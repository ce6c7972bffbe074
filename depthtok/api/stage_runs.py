"""What the commands of stages share: which options they take, and how a stage is run or planned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from depthtok.api.parameters import BySet, Only
from depthtok.config import RunOptions
from depthtok.errors import ConfigError
from depthtok.log import announce, warn
from depthtok.signals import stoppable
from pipelines.config import ConvertConfig

if TYPE_CHECKING:
    from depthtok.sources.schema import Schema
    from depthtok.stores.codebook import Codebook
    from depthtok.stores.episodes import EpisodeStore
    from pipelines.plan import Plan
    from pipelines.stage import Outcome, Stage

Out = Annotated[Path, "directory of the store, new or to resume"]
SHARED = (
    *("workers", "ray_address", "cpus_per_worker", "shard"),
    *("limit", "plan", "resume", "retry_failed"),
)
OnDevice = Annotated[
    RunOptions,
    Only(*SHARED, "partial", "device", "gpus_per_worker"),
    BySet("cpus_per_worker", "gpus_per_worker"),
]


def carry_out(stage: Stage, options: RunOptions) -> Outcome | Plan:
    """Runs a stage, or plans it with `options.plan`."""
    from pipelines.run import run

    if options.plan:
        return planned(stage, options)
    with stoppable():
        return run(stage, options)


def planned(stage: Stage, options: RunOptions) -> Plan:
    """The plan of a stage. Raises `StaleStore` and `OutputError` for what lies in its place, as the
    stage itself would."""
    from depthtok.stores.filling import require_fitting
    from pipelines.plan import plan

    require_fitting(stage.out, stage.spec)
    return plan(stage, options)


def codebook_with_verdict(path: Path) -> tuple[Codebook, dict]:
    """A codebook, and what the quality gate says of it; that goes with the codes."""
    from depthtok.stores.codebook import Codebook
    from vqvae.quality.gate import failed_limits, shortfalls

    book = Codebook.load(path)
    failures = failed_limits(book.quality)
    if failures:
        warn(f"{path} is below the quality gate: {'; '.join(shortfalls(book.quality))}")
    return book, {"failures": failures, "demo": book.demo}


def open_episodes(
    source: Path, out: Path, options: RunOptions, schema: str = ""
) -> EpisodeStore | Plan:
    """The EpisodeStore at `source`, or the one beside `out` that a data set (by `schema`, or the
    shipped one), or a folder of videos or images, is converted to; its outcome is announced. A plan
    converts nothing: where something is to be converted, it is the plan of that. Raises
    `ConfigError` for a schema where `source` is no data set, and for one job of several where
    something is to be converted: each would convert all of it."""
    from depthtok.stores.episodes import EpisodeStore
    from depthtok.stores.spec import is_store
    from pipelines.convert.opening import Converting
    from pipelines.convert.told import with_schema
    from pipelines.run import run

    if schema and (is_store(source) or _is_films(source)):
        raise ConfigError(
            f"--schema is for data sets, {source} is none",
            remedy="leave it out; `depthtok convert` takes it for a store that is to be made anew",
        )
    if is_store(source):
        return EpisodeStore(source, source_root=options.source_root)
    converted = episodes_beside(out)
    stage = _conversion(source, converted, schema)
    how = replace(options, plan=False, shard=None, limit=None, partial=False, resume=True)
    if options.plan or options.shard:
        # What failed may be tried again by one job, not by each.
        conversion = planned(stage, replace(how, retry_failed=options.plan and how.retry_failed))
        complete = is_store(converted) and not EpisodeStore(converted).missing()
        if complete and not conversion.parts:
            return EpisodeStore(converted)
        if options.plan:
            return conversion
        raise _unconverted(source, out, stage, schema)
    with stoppable():
        outcome = run(stage, how)
    announce(with_schema(outcome, stage) if isinstance(stage, Converting) else outcome)
    return EpisodeStore(converted)


def _unconverted(source: Path, out: Path, stage: Stage, schema: str) -> ConfigError:
    """Says how one job converts, before several annotate."""
    from pipelines.convert.opening import Converting

    first = f"`depthtok annotate {source} --out {out} --limit 1` with the same flags"
    if isinstance(stage, Converting):
        by = f" --schema {schema}" if schema else ""
        first = f"`depthtok convert {source} --out {stage.out}{by}`"
    return ConfigError(
        f"{stage.out} is not whole, and one job of several (--shard) would convert all of {source}",
        remedy=f"convert first, in one job: {first}",
    )


def episodes_beside(out: Path) -> Path:
    """Where the EpisodeStore lies that is made on the way to the store at `out`."""
    out = out if out.name else out.absolute()
    return out.with_name(f"{out.name}.episodes")


def _conversion(source: Path, converted: Path, schema: str) -> Stage:
    """The stage that makes an EpisodeStore of a data set or of videos."""
    from depthtok.sources.videos import other_files
    from pipelines.convert.opening import stage_of
    from pipelines.videos import VideoStage

    if not _is_films(source):
        stage = stage_of(source, converted, ConvertConfig(schema=schema))
        warn_of_unknown(stage.schema)
        return stage
    videos = VideoStage(source, converted)
    if videos.films and (names := videos.depth_videos):
        videos_are = "1 depth video is" if len(names) == 1 else f"{len(names)} depth videos are"
        warn(f"{videos_are} left out, being no pictures (first: {names[0]})")
    others, first = other_files(source)
    if others:
        files = "1 file is" if others == 1 else f"{others:,} files are"
        warn(f"{files} left out, being no images or videos (first: {first})")
    return videos


def _is_films(source: Path) -> bool:
    """Whether `source` is taken for videos and images: on a disk, and no data set."""
    from depthtok.remote.location import is_remote
    from depthtok.sources.demonstrations import is_demonstrations
    from depthtok.sources.foreign import is_lerobot
    from depthtok.sources.rlds import is_rlds
    from depthtok.sources.videos import is_video

    if is_remote(source) or is_rlds(source) or is_lerobot(source) or is_demonstrations(source):
        return False
    return is_video(source) or source.is_dir()


def warn_of_unknown(schema: Schema) -> None:
    """Says what the schema does not know: that is not checked, and can be wrong in silence."""
    from pipelines.convert.description import DRAFTED

    if schema.name == DRAFTED:
        warn(
            "no schema is shipped for these data: one was drafted from their features. Depth and "
            "codes need its cameras alone. Before you train on actions, complete it: `depthtok "
            "inspect DIR --draft > my.toml` saves it, `depthtok convert DIR --schema my.toml "
            "--out OUT --overwrite` takes it"
        )
    if schema.status == "documented":
        warn(
            f"the schema {schema.name} fits, but was written from documentation: look at a few "
            "episodes (orientation, gripper, depth) before you rely on it"
        )
    if schema.unknown:
        warn(f"the schema {schema.name} does not say: {'; '.join(schema.unknown)}")
