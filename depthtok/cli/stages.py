"""convert, annotate, tokenize: the stages from an RLDS directory to codes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depthtok.cli.next_step import after_codes, after_convert
from depthtok.cli.options import Only, command
from depthtok.config import RunOptions
from depthtok.errors import ConfigError
from depthtok.format import human_bytes, human_count, human_duration
from depthtok.log import result, say, suggest, typed, warn
from depthtok.signals import stoppable
from depthtok.stores.failures import in_words
from pipelines.config import AnnotateConfig, ConvertConfig, TokenizeConfig

if TYPE_CHECKING:
    from depthtok.sources.schema import Schema
    from depthtok.stores.codebook import Codebook
    from depthtok.stores.episodes import EpisodeStore
    from pipelines.stage import Outcome, Stage

Out = Annotated[Path, typer.Option("--out", help="directory of the store, new or to resume")]
SHOWN_FAILURES = 5
SHARED = (
    "workers", "ray_address", "cpus_per_worker", "shard", "limit", "plan", "resume",
    "retry_failed", "json",
)  # fmt: skip
CONVERTING = Annotated[RunOptions, Only(*SHARED, "overwrite")]
ON_DEVICE = Annotated[RunOptions, Only(*SHARED, "partial", "device", "gpus_per_worker")]
ANNOTATING = Annotated[
    RunOptions, Only(*SHARED, "partial", "device", "gpus_per_worker", "source_root")
]


def register(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    for function in (convert, annotate, tokenize):
        command(app)(function)


def convert(
    source: Annotated[Path, typer.Argument(metavar="RLDS_DIR", help="directory of the data set")],
    out: Out,
    settings: ConvertConfig,
    options: CONVERTING,
) -> None:
    """Index an RLDS data set: RLDS_DIR -> EpisodeStore.

    Reads every record once. Images stay where they are; actions, states, instructions and the place
    of every image go into the store. Given again, it makes the parts of shards that changed anew.

    Example: depthtok convert libero_spatial_no_noops/1.0.0 --out runs/episodes
    """
    from depthtok.sources.rlds import RldsDirectory
    from pipelines.convert.overwrite import settle
    from pipelines.convert.stage import ConvertStage

    settle(out)
    rlds = RldsDirectory.open(source)
    stage = ConvertStage(rlds, out, settings)
    warn_of_unknown(stage.schema)
    carry_out(stage, options, after_convert(stage))


def annotate(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="EPISODES|RLDS_DIR|VIDEOS",
            help="an EpisodeStore, an RLDS data set, a video, or a folder of videos or images",
        ),
    ],
    out: Out,
    settings: AnnotateConfig,
    options: ANNOTATING,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="the estimator's weights: .pth or .safetensors")
    ] = None,
    schema: Annotated[
        str, typer.Option("--schema", help="of an RLDS data set: a shipped name, or a .toml file")
    ] = "",
    then_tokenize: Annotated[
        Path | None,
        typer.Option(
            "--then-tokenize", metavar="CODEBOOK", help="keep only codes: OUT becomes a CodeStore"
        ),
    ] = None,
) -> None:
    """Estimate depth for every frame: EpisodeStore -> DepthStore.

    An RLDS directory, or a folder of videos or of folders of images, is first converted, into
    OUT.episodes. `--estimator dataset` takes the ground-truth depth of the data set. With
    `--then-tokenize` each worker encodes its depth and drops it: the codes equal those of
    `tokenize`.

    Example: depthtok annotate runs/episodes --out runs/depth --estimator vits --workers 8
    """
    from pipelines.annotate.stage import AnnotateStage
    from pipelines.depth.registry import find
    from pipelines.device import choose, choose_for

    episodes, whole = open_episodes(source, out, options, schema)
    if episodes is None:  # only planned
        return
    if notice := find(settings.estimator).notice:
        warn(notice)
    device = choose_for(options)
    if settings.compile:
        choose(device)  # what compiles is tried here, for all workers
    stage = AnnotateStage(episodes, out, settings, device, partial=options.partial, weights=weights)
    if stage.origin is not None and not stage.origin.networks:
        warn(unknown_weights(weights, settings.estimator))
    if then_tokenize is None:
        book = out.parent / "codebook"
        carry_out(stage, options, typed("train-vqvae", out, "--out", book), whole=whole)
        return
    from pipelines.annotate.fused import FusedStage

    book, verdict = judged(then_tokenize)
    fused = FusedStage(stage, book, out, TokenizeConfig(), verdict)
    carry_out(fused, options, after_codes(episodes.path, out), whole=whole)


def unknown_weights(path: Path | None, estimator: str) -> str:
    """A warning: nothing tells a relative network's weights from a metric one's."""
    return (
        f"nothing says which network {path} is of: its name is no published one, and it has no "
        f"metadata. It is run as {estimator}; relative and metric weights have the same tensors, "
        "and the wrong ones give depth that is inverted: hold some of it against the images"
    )


def tokenize(
    depth: Annotated[Path, typer.Argument(metavar="DEPTH", help="a DepthStore")],
    codebook: Annotated[Path, typer.Option("--codebook", help="directory of a codebook")],
    out: Out,
    settings: TokenizeConfig,
    options: ON_DEVICE,
    verify_sample: Annotated[
        int,
        typer.Option("--verify-sample", min=0, help="then re-encode this many clips and compare"),
    ] = 0,
) -> None:
    """Encode depth as grids of codes: DepthStore -> CodeStore.

    Example: depthtok tokenize runs/depth --codebook runs/codebook --out runs/codes
    """
    from depthtok.stores.depth import DepthStore
    from depthtok.stores.lineage import outdated
    from pipelines.device import choose, choose_for
    from pipelines.tokenize import TokenizeStage

    store = DepthStore(depth)
    for line in outdated(store):
        warn(line)
    book, verdict = judged(codebook)
    if book.quality and book.quality["kind"] != store.kind:
        warn(
            f"{codebook} was evaluated on {book.quality['kind']}, this depth is {store.kind}: see "
            f"`depthtok eval-vqvae {codebook} {depth} --out DIR`"
        )
    device = choose_for(options)
    if verify_sample:
        choose(device)  # the sample is encoded here: refused before the work, and not after it
    stage = TokenizeStage(store, book, out, settings, device, verdict, partial=options.partial)
    then = after_codes(store.spec.source("episodes"), out)
    carry_out(stage, options, "" if verify_sample else then)
    if verify_sample and not options.plan:
        from depthtok.stores.codes import CodeStore
        from pipelines.verify_codes import verify_sample as verify

        checked = verify(CodeStore(out), store, book, device, verify_sample)
        say(f"{checked} clips re-encoded: every code is the same", json=options.json)
        suggest(then, json=options.json)


def judged(path: Path) -> tuple[Codebook, dict]:
    """A codebook, and what the quality gate says of it; that goes with the codes."""
    from depthtok.stores.codebook import Codebook
    from vqvae.quality.gate import judge

    book = Codebook.load(path)
    verdict = {"failures": judge(book.quality), "demo": book.demo}
    if verdict["failures"]:
        warn(f"{path} is below the quality gate: {'; '.join(verdict['failures'])}")
    return book, verdict


def open_episodes(
    source: Path, out: Path, options: RunOptions, schema: str = ""
) -> tuple[EpisodeStore | None, bool]:
    """The EpisodeStore at `source`, or the one beside `out` that an RLDS directory (by `schema`, or
    the shipped one), or a folder of videos or images, is converted to; and whether all of its
    episodes could be converted. None where the conversion itself is only planned."""
    from depthtok.sources.rlds import RldsDirectory, is_rlds
    from depthtok.sources.videos import is_video
    from depthtok.stores.episodes import EpisodeStore
    from depthtok.stores.store import is_store
    from pipelines.convert.stage import ConvertStage
    from pipelines.run import run
    from pipelines.videos import VideoStage

    if schema and (is_store(source) or (source.is_dir() and not is_rlds(source))):
        raise ConfigError(
            f"--schema is for RLDS data sets, {source} is none",
            remedy="leave it out; `depthtok convert` takes it for a store that is to be made anew",
        )
    if is_store(source):
        return EpisodeStore(source, source_root=options.source_root), True
    converted = out.absolute() if not out.name else out
    converted = converted.with_name(f"{converted.name}.episodes")
    if is_rlds(source) or not (source.is_dir() or is_video(source)):
        stage = ConvertStage(RldsDirectory.open(source), converted, ConvertConfig(schema=schema))
        warn_of_unknown(stage.schema)
    else:
        stage = VideoStage(source, converted)
        if stage.films and (names := stage.depth_videos):
            warn(f"{len(names)} depth videos are left out, being no pictures (first: {names[0]})")
    how = replace(options, plan=False, shard=None, limit=None, partial=False, resume=True)
    if options.plan and not (is_store(converted) and not EpisodeStore(converted).missing()):
        carry_out(stage, replace(how, plan=True), "")
        say("the depth can be planned when this is done", json=options.json)
        return None, True
    with stoppable():
        outcome = run(stage, how)
    show(outcome, options, "")
    return EpisodeStore(converted), not outcome.exit_code


def warn_of_unknown(schema: Schema) -> None:
    """Says what the schema does not know: that is not checked, and can be wrong in silence."""
    if schema.unknown:
        warn(f"the schema {schema.name} does not say: {'; '.join(schema.unknown)}")


def carry_out(stage: Stage, options: RunOptions, then: str, *, whole: bool = True) -> None:
    """Plans or runs a stage, says what came out, and exits with its code: 1 also where an earlier
    stage of the same command was not `whole`."""
    from pipelines.convert.overwrite import planned_over, run_over
    from pipelines.run import run

    if options.plan:
        from pipelines.plan import plan

        planned = plan(planned_over(stage) if options.overwrite else stage, options)
        say(*planned.lines(), json=options.json)
        if options.json:
            result(planned)
        return
    with stoppable():
        outcome = run_over(stage, options) if options.overwrite else run(stage, options)
    show(outcome, options, then)
    if options.json:
        result(outcome)
    if outcome.exit_code or not whole:
        raise typer.Exit(1)


def show(outcome: Outcome, options: RunOptions, then: str) -> None:
    """What a run did, where it lies, and what to type next."""
    from depthtok.stores import instructions

    lines = [
        f"{outcome.out}: {human_count(outcome.episodes)} episodes, "
        f"{human_count(outcome.steps)} steps, {human_bytes(outcome.bytes)}; "
        f"{outcome.made} {'part' if outcome.made == 1 else 'parts'} made, {outcome.kept} kept, "
        f"in {human_duration(outcome.seconds)}"
    ]
    lines += outcome.notes
    if outcome.left:
        lines.append(f"not made yet (--limit, --shard): {outcome.left} of the store's parts")
    if outcome.left_out:
        reasons = ", ".join(f"{count} ({reason})" for reason, count in outcome.left_out.items())
        lines.append(f"left out, as the schema's [keep.episodes] says: {reasons}")
    if outcome.inherited:
        lines.append(f"earlier: {in_words(outcome.earlier)}")
    lines += _not_measured(outcome)
    for failure in outcome.failures[:SHOWN_FAILURES]:
        lines.append(f"failed: {failure.key}: {failure.reason}")
    if len(outcome.failures) > SHOWN_FAILURES:
        more = len(outcome.failures) - SHOWN_FAILURES
        lines.append(f"failed: {more} more; `{typed('inspect', outcome.out)}` lists them")
    lines += instructions.notice(outcome.out)
    lines += [f"gave up on {part}: {why}" for part, why in outcome.given_up.items()]
    if outcome.failures:
        lines.append("run the same command with --retry-failed to try those again")
    if outcome.given_up:
        lines.append("run the same command again to try those parts again")
    for camera, count in sorted(outcome.absent.items()):
        lines.append(
            f"{camera}: absent in {count} episodes (no depth, no codes, masked in training)"
        )
    if outcome.unstated:
        lines.append(
            f"{outcome.unstated} videos do not state their length: if they were cut, it is not seen"
        )
    say(*lines, json=options.json)
    for camera, counts in sorted(outcome.flags_against_pictures.items()):
        warn(
            f"{camera}: its present_key is false in {counts['seen']} episodes whose pictures show "
            f"something, and true in {counts['blank']} whose pictures are one flat colour; if the "
            "flag is wrong, leave present_key out of the schema"
        )
    if then and not outcome.left and not outcome.given_up:
        suggest(then, json=options.json)


def _not_measured(outcome: Outcome) -> Iterator[str]:
    """What was taken for no measurement in the data set's own depth, by camera."""
    for camera, counts in outcome.not_measured.items():
        held = {name: count for name, count in counts.items() if name != "pixels"}
        share = 100 * sum(held.values()) / counts["pixels"]
        yield (
            f"{camera}: {share:.2g} % of the depth's pixels hold no measurement, by their value: "
            + ", ".join(f"{human_count(count)} x {name}" for name, count in held.items())
        )
