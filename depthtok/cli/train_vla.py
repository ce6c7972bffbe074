"""train-vla: EpisodeStores and CodeStores to a policy."""

from __future__ import annotations

from pathlib import Path

from depthtok.api.train_vla import TrainedPolicy, train_vla
from depthtok.cli.options import Command
from depthtok.log import result, say, suggest, typed
from depthtok.stores.failures import in_words
from pipelines.train_vla.memory import MemoryPlan


def tell(trained: TrainedPolicy | MemoryPlan, out: Path, json: bool) -> None:
    """Prints what was learnt, or the memory that it needs; nothing on other ranks."""
    if isinstance(trained, MemoryPlan):
        say(*trained.lines(), json=json)
        if json:
            result(trained.to_json())
        return
    if trained.rank > 0:
        return
    say(*lines_of(trained), json=json)
    suggest(typed("report", out), json=json)
    if json:
        run = {"run": str(trained.run), "step": trained.step}
        result({**run, "last": trained.last, "left_out": trained.left_out})


def lines_of(trained: TrainedPolicy) -> list[str]:
    """The losses, what was seen on held-out episodes, and where the run lies."""
    from depthtok.disk.json_files import read_json_lines
    from pipelines.train_vla.checks import words
    from vla.training import checkpoint

    notes = checkpoint.read_state(checkpoint.find(trained.run)).notes or {}
    last = trained.last or read_json_lines(trained.run / "metrics.jsonl")[-1]
    lines = [f"{trained.run}: {trained.step} steps, action (flow) loss {last['flow']:.3f}"]
    if "depth" in last:
        lines[0] += f", depth loss {last['depth']:.3f}"
    if "depth_top1" in last:
        lines[0] += f", {100 * last['depth_top1']:.1f} % depth code accuracy"
    if "val_action_mse" in last:
        lines.append(
            f"on held-out episodes: action error (MSE, normalised) {last['val_action_mse']:.3f}"
            + (f", depth loss {last['val_depth']:.3f}" if "val_depth" in last else "")
        )
    if "val_depth_error" in last:
        lines[-1] += f", decoded depth off by {last['val_depth_error']:.3f} of the range"
    lines += words(notes.get("held_out"))
    lines.append(f"log: {trained.run / 'metrics.jsonl'}; weights: {trained.run / 'checkpoints'}")
    return lines + [f"{name}: {in_words(counts)}" for name, counts in trained.left_out.items()]


COMMAND = Command(train_vla, tell)
