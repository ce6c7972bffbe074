"""A run's logs: means between two readings, and lines of JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from depthtok.files import read_json_lines, write_atomic
from vla.parallel import Ranks

Line = dict[str, float]  # one line of metrics.jsonl
METRICS, JUDGED = (
    "metrics.jsonl",
    "validation.jsonl",
)  # of the run; of held-out episodes


class Meter:
    """Sums of the values that updates report, and the time they took, since the last reading.

    Put `with meter:` around code that waits for data.
    """

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.restart()

    def restart(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.updates, self.waited_s, self.begun_s = 0, 0.0, time.perf_counter()

    def __enter__(self) -> None:
        self._asked_s = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.waited_s += time.perf_counter() - self._asked_s

    def add(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0) + value
        self.updates += 1

    def read(self, ranks: Ranks) -> Line:
        """Means (each rank holds its part of a sum), samples per second, and the share of time
        spent waiting for data; then restarts."""
        parts = torch.stack([value.float() for value in self.sums.values()])
        means = (ranks.total(parts) / self.updates).tolist()
        passed_s = time.perf_counter() - self.begun_s
        line = dict(zip(self.sums, means, strict=True)) | {
            "samples_per_s": self.updates * self.batch / passed_s,
            "data_wait": self.waited_s / passed_s,
        }
        self.restart()
        return line


class Log:
    """Lines of JSON, each with its `step`. A resumed run drops those that it will write again."""

    def __init__(self, path: Path, *, silent: bool = False) -> None:
        self.path, self.silent = path, silent

    def begin(self, step: int) -> list[dict[str, Any]]:
        """Drops the lines after `step`, and returns those up to there."""
        lines = read_json_lines(self.path) if self.path.is_file() and step else []
        kept = [line for line in lines if line["step"] <= step]
        if not self.silent:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        return kept

    def write(self, line: Mapping[str, Any]) -> None:
        if not self.silent:
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
