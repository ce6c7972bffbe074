"""What tests of `train-vla` share: a micro model, its command line, and its log."""

import json
from pathlib import Path

from typer.testing import CliRunner

from depthtok.cli.main import app

CLOCK = ("samples_per_s", "data_wait", "tflops", "mfu", "validate_s")
DEMO = Path(__file__).parents[2] / "vqvae" / "demo"
MICRO = """
base = "tiny"
[model]
chunk = 2
[model.vision]
image_size = 16
patch = 2
width = 16
layers = 1
mlp = 16
""" + "".join(
    f"[model.{name}]\nwidth = 16\nmlp = 16\nlayers = 2\nheads = 2\nhead_dim = 8\n"
    for name in ("vlm", "action", "depth_expert")
)


def call(*arguments: object, code: int = 0) -> str:
    """The output of a command that must end with `code`; what it raises is raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout


def training(stores, out, *more: object) -> list[object]:
    return [
        "train-vla",
        "--episodes",
        stores / "episodes",
        "--codes",
        stores / "codes",
        "--preset",
        stores / "micro.toml",
        "--batch",
        4,
        "--held-out",
        0.4,
        "--device",
        "cpu",
        "--log-every",
        1,
        "--validate-every",
        10,
        "--threads",
        1,
        "--out",
        out,
        *more,
    ]


def lines(run: Path) -> list[dict]:
    """The log without what the clock says."""
    read = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in CLOCK} for line in read]
