"""A run's logs: means between two readings, and lines of JSON.

RUN/metrics.jsonl    one line per log point
RUN/metrics.sums     for each of those lines, the digest of the log up to its end
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from depthtok.disk.files import output_errors, sync_file, write_atomic
from depthtok.disk.regular import require_given
from depthtok.errors import CorruptPart
from vla.training.parallel import Ranks

Line = dict[str, float]  # one line of metrics.jsonl
METRICS, VALIDATIONS = (
    "metrics.jsonl",
    "validation.jsonl",
)  # of the run; of held-out episodes
CLOCK = ("samples_per_s", "data_wait", "tflops", "mfu", "validate_s")
"""What the clock says in METRICS."""
DIGITS = 16  # of a SHA-256, enough against accidents
DAMAGED = "the log is damaged: restore it from a copy, or train into another --out"


class UpdateMeter:
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


@dataclass(frozen=True)
class Mark:
    """How far a log went, as a checkpoint notes it."""

    lines: int
    sha256: str  # of those lines without what the clock says: equal runs note equal marks

    @classmethod
    def from_json(cls, data: Any, where: Path) -> Mark:
        """Raises `CorruptPart` for what is no mark."""
        try:
            return cls(int(data["lines"]), str(data["sha256"]))
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptPart(f"{where} notes no length of {data!r}", remedy=DAMAGED) from error


@dataclass(frozen=True)
class Entries:
    """The finished lines of a log as they lie on disk, and, beside it, the sum of each: the digest
    of the log up to there. `sums` is None where there are none: older versions wrote none."""

    path: Path
    lines: list[bytes]
    sums: list[str] | None

    @classmethod
    def read(cls, path: Path) -> Entries:
        """Those of a log; none of either if there is no such file. Raises `CorruptPart` for one
        that cannot be read."""
        try:
            lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
            beside = sums_of(path)
            sums = beside.read_bytes().split(b"\n")[:-1] if beside.is_file() else None
        except OSError as error:
            require_given(path, error)
            raise CorruptPart(f"{path} cannot be read: {error}", remedy=DAMAGED) from error
        if sums is None:
            return cls(path, lines, None)
        return cls(path, lines, [digest.decode(errors="replace") for digest in sums])

    def require_unchanged(self) -> None:
        """Raises `CorruptPart` for a line that was changed after it was written."""
        pairs = zip(self.digests(), self.sums or (), strict=False)
        for number, (actual, expected) in enumerate(pairs, 1):
            if actual != expected:
                raise CorruptPart(
                    f"line {number} of {self.path} was changed after it was written",
                    remedy=DAMAGED,
                )

    def require_whole(self, mark: Mark | None) -> None:
        """The same, and for lines that are lost, given what the newest checkpoint noted, if it
        did. Raises `CorruptPart`."""
        self.require_unchanged()
        sums, lines = sums_of(self.path), len(self.lines)
        if self.sums is None and mark:
            raise CorruptPart(f"{sums} is missing", remedy=DAMAGED)
        # A writer can be stopped between a line and its sum.
        if self.sums is not None and lines - len(self.sums) not in (0, 1):
            raise CorruptPart(
                f"{self.path} has {lines} lines, but {sums.name} {len(self.sums)}", remedy=DAMAGED
            )
        if mark and (lines < mark.lines or self.upto(mark.lines) != mark):
            raise CorruptPart(
                f"{self.path} is not the log that the newest checkpoint was written with",
                remedy=DAMAGED,
            )

    def digests(self) -> Iterator[str]:
        """The sum of each line."""
        digest = hashlib.sha256()
        for line in self.lines:
            digest.update(line + b"\n")
            yield digest.hexdigest()[:DIGITS]

    def upto(self, count: int) -> Mark:
        """The mark after that many lines."""
        digest = hashlib.sha256()
        for entry in self.objects()[:count]:
            digest.update(_timeless(entry))
        return Mark(count, digest.hexdigest())

    def objects(self) -> list[dict[str, Any]]:
        """The lines, parsed. Raises `CorruptPart` for one that is no object with a `step`."""
        entries = []
        for number, line in enumerate(self.lines, 1):
            try:
                entry = json.loads(line)
                entry["step"] + 0
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                problem = f"line {number} of {self.path} is no line of a log"
                raise CorruptPart(problem, remedy=DAMAGED) from error
            entries.append(entry)
        return entries


def _timeless(entry: Mapping[str, Any]) -> bytes:
    values = {name: value for name, value in entry.items() if name not in CLOCK}
    return json.dumps(values).encode() + b"\n"


def sums_of(log: Path) -> Path:
    """The file beside a log with a sum for each of its lines."""
    return log.with_suffix(".sums")


class Log:
    """Lines of JSON, each with its `step`. A resumed run drops those that it will write again."""

    def __init__(self, path: Path, *, silent: bool = False) -> None:
        self.path, self.silent = path, silent
        self._digest, self._timeless, self._count = hashlib.sha256(), hashlib.sha256(), 0

    def begin(self, step: int) -> list[dict[str, Any]]:
        """Drops the lines after `step`, and returns those up to there. Raises `CorruptPart` for a
        log that was changed after it was written."""
        entries = Entries.read(self.path) if step else Entries(self.path, [], None)
        entries.require_unchanged()
        objects = entries.objects()
        pairs = zip(entries.lines, objects, strict=True)
        remaining = Entries(
            self.path, [line for line, entry in pairs if entry["step"] <= step], None
        )
        if not self.silent:
            write_atomic(self.path, b"".join(line + b"\n" for line in remaining.lines))
            write_atomic(sums_of(self.path), "".join(f"{entry}\n" for entry in remaining.digests()))
        for line, entry in zip(remaining.lines, remaining.objects(), strict=True):
            self._count_in(line + b"\n", entry)
        return remaining.objects()

    def write(self, line: Mapping[str, Any]) -> None:
        """Adds a line."""
        if self.silent:
            return
        text = json.dumps(line) + "\n"
        self._count_in(text.encode(), line)
        with output_errors(self.path):
            for path, words in ((self.path, text), (sums_of(self.path), f"{self._sum}\n")):
                with path.open("a") as file:
                    file.write(words)

    def mark(self) -> Mark:
        """How far the log goes, once that is on the disk to stay."""
        if not self.silent:
            for path in (self.path, sums_of(self.path)):
                sync_file(path)
        return Mark(self._count, self._timeless.hexdigest())

    def _count_in(self, line: bytes, entry: Mapping[str, Any]) -> None:
        self._digest.update(line)
        self._timeless.update(_timeless(entry))
        self._count += 1

    @property
    def _sum(self) -> str:
        return self._digest.hexdigest()[:DIGITS]
