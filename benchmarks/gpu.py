"""Every GPU benchmark of this folder, in one call: `make bench-gpu`.

    python benchmarks/gpu.py [--out bench-gpu] [--only vq_rate.py ...] [--tiny]

Writes OUT/rows.jsonl, a line for each figure as it is found, and OUT/table.md: the card, torch's
version, the command, the figure, its floor (what the card's arithmetic, or its memory, allows: a
rate, or a time) and their ratio. `--tiny` runs everything small on a CPU, to show that it works;
its floors are those of the CPU where a script measures them, and mean little.

Without a GPU, and after any script failed, it ends with exit code 1; the others' rows are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

FOLDER = Path(__file__).parent
TFLOPS = 790  # bfloat16 products on an H200, measured; floors of other cards scale with theirs
LIMIT_S = 3600


@dataclass(frozen=True)
class Script:
    """A benchmark: its arguments on a GPU and small on a CPU, and how its rows are read."""

    name: str
    gpu: str
    tiny: str
    read: Callable[[dict, float], dict | None]
    to_file: bool = True  # rows as lines of `--json FILE`; else a list on standard output


def as_it_is(row: dict, tflops: float) -> dict:
    """A row with `what`, `figure`, `unit` and perhaps `floor`."""
    return row


def of_vida(row: dict, tflops: float) -> dict:
    """Frames a second of one way to run a network, and what the arithmetic allows."""
    return {
        "what": f"ViDA {row['network']}, {row['precision']}, {row['way']}",
        "figure": row["frames_per_second"],
        "unit": "frames/s",
        "floor": row["floor"] * tflops / TFLOPS,
    }


def of_policy(row: dict, tflops: float) -> dict:
    """Milliseconds per chunk; a way that a card refuses has no figure."""
    how = f"{row['precision']}, {row['sampler']}, {'graph' if row['graph'] else 'eager'}"
    what = f"policy {row['model']}, {row['cameras']} camera(s), {how}"
    if "refused" in row:
        return {"what": what, "failed": row["refused"]}
    return {"what": what, "figure": row["ms"], "unit": "ms", "floor": row["floor_ms"]}


WAYS = "eager compile graphs compile+graphs compile+graphs+explicit compile+graphs+kernel"
SCRIPTS = (
    Script(
        "vida_gpu.py",
        f"--network vits vitl --readers 8 --plain --json --ways {WAYS}",
        "--network tiny --size 28 --clips 2 --frames 3 --side 64 --json",
        of_vida,
        to_file=False,
    ),
    Script(
        "policy_ms.py",
        "--sampler plain folded compiled",
        "--preset tiny --cameras 1 --rounds 1",
        of_policy,
    ),
    Script("vla_updates.py", "--passes 1 4", "--preset tiny --batch 2 --rounds 1", as_it_is),
    Script("vq_rate.py", "", "--steps 2 --frames 70", as_it_is),
)


def card() -> str:
    """The device's name."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU ({platform.machine()})"


def measured_tflops() -> float:
    """Of large bfloat16 products."""
    from vq_rate import rate

    return rate(torch.device("cuda")) / 1e12


def rows_of(script: Script, tiny: bool, tflops: float) -> Iterator[dict]:
    """What one script finds, or how it failed."""
    words = [
        sys.executable,
        str(FOLDER / script.name),
        *(script.tiny if tiny else script.gpu).split(),
    ]
    command = " ".join(["python", f"benchmarks/{script.name}", *words[2:]])
    origin = {"script": script.name, "command": command}
    if not (FOLDER / script.name).is_file():
        yield {**origin, "failed": "it is not in this folder"}
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.jsonl"
        words += ["--json", str(file)] if script.to_file else []
        hidden = {"CUDA_VISIBLE_DEVICES": ""} if tiny else {}
        try:
            done = subprocess.run(
                words,
                capture_output=True,
                text=True,
                timeout=LIMIT_S,
                check=False,
                env={**os.environ, **hidden},
            )
            problem = done.stderr.strip().splitlines()[-1:] if done.returncode else []
        except subprocess.TimeoutExpired:
            done, problem = None, [f"it took more than {LIMIT_S} s"]
        lines = file.read_text().splitlines() if file.is_file() else []
        rows = [json.loads(line) for line in lines]
        if done and not script.to_file and not done.returncode:
            rows = json.loads(done.stdout.splitlines()[-1])
    for row in rows:
        yield {**origin, **script.read(row, tflops)}
    if done is None or done.returncode or not rows:
        yield {**origin, "failed": "".join(problem) or "it found nothing"}


def ratio(row: dict) -> float | None:
    """The share of the floor's speed that is reached."""
    if not row.get("floor") or "figure" not in row:
        return None
    slower = row["unit"] in ("ms", "s")
    return row["floor"] / row["figure"] if slower else row["figure"] / row["floor"]


def table(rows: Sequence[dict]) -> str:
    """The rows as Markdown."""
    lines = [
        "| what | command | figure | floor | ratio | card | torch |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        figure = f"{row['figure']:,.4g} {row['unit']}" if "figure" in row else row["failed"]
        floor = f"{row['floor']:,.4g}" if row.get("floor") else ""
        share = "" if row.get("ratio") is None else f"{row['ratio']:.1%}"
        what, command = row.get("what", row["script"]), row["command"]
        lines.append(
            f"| {what} | `{command}` | {figure} | {floor} | {share} | {row['card']} | "
            f"{row['torch']} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("bench-gpu"))
    parser.add_argument("--only", nargs="+", choices=[s.name for s in SCRIPTS], default=())
    parser.add_argument("--tiny", action="store_true", help="small, on a CPU: shows that it works")
    options = parser.parse_args()
    if not options.tiny and not torch.cuda.is_available():
        print(
            f"torch {torch.__version__} finds no CUDA device: nothing was measured.\n"
            "`depthtok doctor` says what is missing; `--tiny` shows on a CPU that the scripts work",
            file=sys.stderr,
        )
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    tflops = TFLOPS if options.tiny else measured_tflops()
    about = {"card": card(), "torch": torch.__version__}
    rows = []
    with (options.out / "rows.jsonl").open("w") as file:
        for script in SCRIPTS:
            if options.only and script.name not in options.only:
                continue
            for row in rows_of(script, options.tiny, tflops):
                rows.append({**row, "ratio": ratio(row), **about})
                file.write(json.dumps(rows[-1]) + "\n")
                file.flush()
                print(table(rows[-1:]).splitlines()[-1], flush=True)
    (options.out / "table.md").write_text(table(rows))
    # A way that a card refuses is a row; a script that ends badly is a failure.
    return int(any("failed" in row and "what" not in row for row in rows))


if __name__ == "__main__":
    sys.exit(main())
