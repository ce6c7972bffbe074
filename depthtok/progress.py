"""How far a job is: a tqdm bar on a terminal or in a notebook, plain lines anywhere else."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

from depthtok.errors import DepthtokError
from depthtok.format import human_duration, human_number
from depthtok.log import TextStream, quiet, silenced

Extra = float | int | str
SHORT = "| {n_fmt}/{total_fmt} [{remaining} left]"
BAR = 10  # columns that a bar has on a terminal, whatever is said beside it


@runtime_checkable
class Bar(Protocol):
    """Progress of one job."""

    def advance(self, n: int = 1, **extra: Extra) -> None:
        """`n` more are done; `extra` (loss, share of time busy, ...) is shown beside them."""
        ...

    def reach(self, done: int, **extra: Extra) -> None:
        """As `advance`, to `done` in all. The rate is that since the first call: a resumed training
        has steps that it did not take, and a first step that is slow."""
        ...


@contextmanager
def progress(
    total: int | None,
    unit: str = "items",
    label: str = "",
    *,
    done: int = 0,
    interval: float = 30.0,
    plain: bool = True,
    clock: Callable[[], float] = time.monotonic,
    stream: TextStream | None = None,
) -> Iterator[Bar]:
    """Show the progress of a `with` block on stderr (or `stream`). Blocks may be nested: on a
    terminal, the bar of the inner one is below that of the outer one.

    `total` is None where it is not known; `done` were there before the start, so they count for
    the share but not for the rate. `interval` (s) spaces the plain lines; without `plain`, nothing
    is shown but on a terminal or in a notebook. When `quiet`, nothing is shown at all.
    """
    if quiet():
        yield Unseen()
        return
    notebook, stream = stream is None and _in_notebook(), stream or sys.stderr
    if notebook or stream.isatty():
        kind = import_module("tqdm.notebook" if notebook else "tqdm").tqdm
        with _bar(kind, total, unit, label, done, stream) as bar:
            yield bar
        return
    if not plain:
        yield Unseen()
        return
    lines = Lines(total, unit, label, done, interval, clock, stream)
    try:
        yield lines
    except BaseException as error:
        if lines.moved or not isinstance(error, DepthtokError):  # else refused before it began
            lines.finish("stopped")
        raise
    lines.finish("done")


class Unseen:
    """Progress that nobody sees."""

    def advance(self, n: int = 1, **extra: Extra) -> None:
        """Nothing."""

    def reach(self, done: int, **extra: Extra) -> None:
        """Nothing."""


@dataclass
class Lines:
    """Progress as plain lines: at most one every `interval` seconds, and one at the end."""

    total: int | None
    unit: str
    label: str
    done: int
    interval: float
    clock: Callable[[], float]
    stream: TextStream

    def __post_init__(self) -> None:
        self.before, self.start = self.done, self.clock()
        self.last = self.start
        self.since: float | None = None  # the first `reach`
        self.moved = False
        self.extra: dict[str, Extra] = {}

    def advance(self, n: int = 1, **extra: Extra) -> None:
        self.moved = True
        self.done += n
        self.extra |= extra
        now = self.clock()
        if now - self.last >= self.interval:
            self.last = now
            self._print([*self._facts(now), *self._time_left(now)])

    def reach(self, done: int, **extra: Extra) -> None:
        if self.since is None:
            self.since, self.before, self.done = self.clock(), done, done
        self.advance(done - self.done, **extra)

    def finish(self, how: str) -> None:
        """The last line."""
        now = self.clock()
        self._print([*self._facts(now), f"{how} after {human_duration(now - self.start)}"])

    def _facts(self, now: float) -> list[str]:
        count = f"{self.done:,}"
        if self.total:
            count += f"/{self.total:,}"
        count += f" {self.unit}"
        if self.total:
            count += f" ({100 * self.done // self.total}%)"
        rate = self._rate(now)
        speed = [f"{human_number(rate)} {self.unit}/s"] if rate else []
        return [count, *speed, *_extra_texts(self.extra)]

    def _time_left(self, now: float) -> list[str]:
        rate = self._rate(now)
        if not rate or not self.total or self.done >= self.total:
            return []
        return [f"{human_duration((self.total - self.done) / rate)} left"]

    def _rate(self, now: float) -> float | None:
        elapsed = now - (self.start if self.since is None else self.since)
        return (self.done - self.before) / elapsed if elapsed > 0 else None

    def _print(self, words: list[str]) -> None:
        head = f"{self.label}: " if self.label else ""
        with silenced():
            print(head + ", ".join(words), file=self.stream, flush=True)


def _in_notebook() -> bool:
    """Whether this is a Jupyter kernel that shows widgets."""
    if "ipykernel" not in sys.modules:
        return False
    try:
        import_module("ipywidgets")
    except ImportError:
        return False
    return True


@contextmanager
def _bar(
    kind: Any, total: int | None, unit: str, label: str, done: int, stream: TextStream
) -> Iterator[Bar]:
    """A bar of tqdm's: `kind` is the one for terminals, or that for notebooks."""

    class Shown(kind):
        monitor_interval = 0  # no watching thread: it would not survive a fork
        reached = False
        extras: tuple[str, ...] = ()

        def advance(self, n: int = 1, **extra: Extra) -> None:
            if extra:
                self.extras = tuple(_extra_texts(extra))
                self.set_postfix_str(", ".join(self.extras), refresh=False)
            self.update(n)

        def reach(self, done: int, **extra: Extra) -> None:
            if not self.reached:
                self.reached = True
                self.initial = self.n = self.last_print_n = done
                self.start_t = self.last_print_t = self._time()
            self.advance(done - int(self.n), **extra)

        def __str__(self) -> str:
            return fitted(self.format_meter, self.format_dict, self.extras)

    with Shown(
        total=total,
        initial=done,
        desc=label or None,
        unit=f" {unit}",
        file=stream,
        dynamic_ncols=True,
        smoothing=0.1,
    ) as bar:
        yield bar


def fitted(meter: Callable[..., str], facts: dict, extras: Sequence[str]) -> str:
    """tqdm's line of these facts, in which the bar keeps `BAR` columns: a label gets a third of the
    line, its middle being left out; where that is not enough the last of the extras go, then the
    rate, then the rest of the label."""
    columns = facts["ncols"]
    if not columns or not facts["total"]:
        return meter(**facts)
    prefix = facts["prefix"]
    facts = {**facts, "prefix": _shorter(prefix, len(prefix) - columns // 3)}

    def length(**changes: str) -> int:
        return len(meter(**{**facts, **changes, "ncols": None}))

    for count in range(len(extras), -1, -1):
        postfix = ", ".join(extras[:count])
        if length(postfix=postfix, bar_format="{l_bar}{r_bar}") + BAR <= columns:
            return meter(**{**facts, "postfix": postfix})
    excess = length(postfix="", bar_format="{l_bar}" + SHORT) + BAR - columns
    label = _shorter(facts["prefix"], excess)
    return meter(**{**facts, "postfix": "", "prefix": label, "bar_format": "{l_bar}{bar}" + SHORT})


def _shorter(label: str, excess: int) -> str:
    """A label without so many characters of its middle."""
    room = len(label) - excess - 1
    if excess <= 0 or room < 2:
        return label if excess <= 0 else ""
    return f"{label[: room - room // 2]}\u2026{label[len(label) - room // 2 :]}"


def _extra_texts(extra: dict[str, Extra]) -> list[str]:
    return [f"{name}={human_number(value)}" for name, value in extra.items()]
