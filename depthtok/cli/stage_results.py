"""What a stage did, in words: for the commands that run one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from depthtok.format import human_bytes, human_count, human_duration
from depthtok.log import result as print_json
from depthtok.log import say, suggest, typed, warn
from depthtok.stores.failures import in_words

if TYPE_CHECKING:
    from pipelines.plan import Plan
    from pipelines.stage import Outcome

SHOWN_FAILURES = 5


def tell_stage(
    outcome: Outcome | Plan, then: Callable[[], str] | None = None, *, json: bool, last: bool = True
) -> int:
    """Prints a plan; or what a run did, where it lies, and what to type next. Returns the exit
    code. `last`: this is the command's result, which is also printed as JSON."""
    if hasattr(outcome, "lines"):
        say(*outcome.lines(), json=json)
    else:
        tell_outcome(outcome, then, json=json)
    if json and last:
        print_json(outcome)
    return getattr(outcome, "exit_code", 0)


def tell_outcome(outcome: Outcome, then: Callable[[], str] | None, *, json: bool) -> None:
    """What a run did, where it lies, and what to type next."""
    from depthtok.stores import instructions

    lines = [
        f"{outcome.out}: {human_count(outcome.episodes)} episodes, "
        f"{human_count(outcome.steps)} steps, {human_bytes(outcome.bytes)}; "
        f"{outcome.made} {'part' if outcome.made == 1 else 'parts'} made, {outcome.kept} kept, "
        f"in {human_duration(outcome.seconds)}"
    ]
    lines += _schema(outcome)
    lines += outcome.notes
    if outcome.left and not (outcome.made or outcome.kept or outcome.given_up):
        lines.append("nothing to do for this job: what the store has to have is that of others")
    elif outcome.left:
        lines.append(f"not made yet (--limit, --shard): {outcome.left} of the store's parts")
    if outcome.left_out:
        reasons = ", ".join(f"{count} ({reason})" for reason, count in outcome.left_out.items())
        lines.append(f"left out, as the schema's [keep.episodes] says: {reasons}")
    if outcome.inherited:
        lines.append(f"earlier: {in_words(outcome.earlier)}")
    lines += _not_measured(outcome)
    lines += _median_depth(outcome)
    for failure in outcome.failures[:SHOWN_FAILURES]:
        lines.append(f"failed: {failure.key}: {failure.reason}")
    if len(outcome.failures) > SHOWN_FAILURES:
        unlisted = len(outcome.failures) - SHOWN_FAILURES
        lines.append(f"failed: {unlisted} more; `{typed('inspect', outcome.out)}` lists them")
    lines += instructions.notice(outcome.out)
    lines += [f"gave up on {part}: {why}" for part, why in outcome.given_up.items()]
    if outcome.failures:
        lines.append(_once_mended(outcome))
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
    say(*lines, json=json)
    for text in outcome.unlikely_depth:
        warn(text)
    for camera, counts in sorted(outcome.flags_against_pictures.items()):
        warn(
            f"{camera}: its present_key is false in {counts['seen']} episodes whose pictures show "
            f"something, and true in {counts['blank']} whose pictures are one flat colour; if the "
            "flag is wrong, leave present_key out of the schema"
        )
    if outcome.unlikely_depth:
        return  # what to type is in the warning
    if then and outcome.episodes and not outcome.left and not outcome.given_up:
        suggest(then(), json=json)


def _schema(outcome: Outcome) -> Iterator[str]:
    """By which schema a data set was converted, and the steps that this leaves out."""
    if outcome.schema:
        yield f"schema {outcome.schema}"
    if outcome.steps_left_out:
        noun = "step" if outcome.steps_left_out == 1 else "steps"
        count = human_count(outcome.steps_left_out)
        yield f"{count} {noun} left out: {outcome.steps_rule}, as the schema says"
    elif outcome.steps_left_out is None and outcome.steps_rule:
        yield (
            f"steps left out, as the schema says: {outcome.steps_rule} (how many is not recorded "
            "in the store: it is counted where one process makes all of it)"
        )


def _not_measured(outcome: Outcome) -> Iterator[str]:
    """What was taken for no measurement in the data set's own depth, by camera."""
    for camera, counts in outcome.not_measured.items():
        held = {name: count for name, count in counts.items() if name != "pixels"}
        share = 100 * sum(held.values()) / counts["pixels"]
        yield (
            f"{camera}: {share:.2g} % of the depth's pixels hold no measurement, by their value: "
            + ", ".join(f"{human_count(count)} x {name}" for name, count in held.items())
        )


def _median_depth(outcome: Outcome) -> Iterator[str]:
    """The median depth of each camera, where it is in metres."""
    if outcome.median_depth_m:
        from pipelines.annotate.medians import in_words as medians_in_words

        yield f"median depth: {medians_in_words(outcome.median_depth_m)}"


def _once_mended(outcome: Outcome) -> str:
    """What to type once the cause of the failures is mended: depth of another unit, say, is
    another store."""
    from depthtok.stores.depth import UNFIT, DepthEncoding

    estimated = f"{UNFIT} {DepthEncoding.FLOAT16}"  # no schema states the unit of an estimate
    reasons = (f.reason for f in outcome.failures if f.stage == "annotate")
    if not any(("schema" in text or UNFIT in text) and estimated not in text for text in reasons):
        return "once their cause is mended, run the same command with --retry-failed"
    return (
        "most likely depth_unit, depth_invalid or depth_max in the schema is wrong: mend it, "
        "`convert` with --overwrite, then annotate into a new --out (or delete "
        f"{outcome.out} first). Where the data were wrong: the same command with --retry-failed"
    )
