"""Errors that a user can mend: what is wrong, and what to do about it.

    DepthtokError
    ├── ConfigError          a setting, flag or TOML key
    ├── SchemaError          a data set's schema does not fit its features
    ├── SourceError          data that come in
    │   └── CorruptRecord    bytes that are not what was written; names file and record
    ├── SourceUnavailable    a source that cannot be read now: nothing is known of its bytes
    │   └── NotAFile         a pipe, device, socket or directory in the place of a file
    ├── StoreError           stores that we write
    │   ├── StaleStore       made with other settings, or from other data
    │   ├── CorruptPart      digest or shape differs from the manifest
    │   ├── MissingParts     not complete yet
    │   └── OutputError      disk full, read-only, wrong place
    │       └── InUse        another process writes there
    ├── DepthKindError       disparity where metres were meant, or the reverse
    ├── MissingPackage       an extra that is not installed
    ├── WorkerDied           a process ended before its work did
    ├── WeightsError         checkpoint absent, or of another shape
    ├── TrainingError        a training that diverged
    └── GateError            a codebook that is too bad to train on

The command line prints `problem` and `remedy` and exits with code 2. Anything else is a bug and
keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class DepthtokError(Exception):
    """A problem in the user's hands, with its remedy: both are sentences for people."""

    def __init__(self, problem: str, *, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __reduce__(self) -> tuple:  # keeps `remedy` when an error travels between processes
        return (_rebuild, (type(self), self.problem, self.remedy))

    def __str__(self) -> str:
        return f"{self.problem}\n{self.remedy}" if self.remedy else self.problem


def _rebuild(kind: type[DepthtokError], problem: str, remedy: str) -> DepthtokError:
    return kind(problem, remedy=remedy)


class ConfigError(DepthtokError):
    """A setting that makes no sense, or that is not known."""


class SchemaError(DepthtokError):
    """A data-set schema that does not fit the features of the data set."""


class SourceError(DepthtokError):
    """Input data that are missing, or not of the kind that was asked for."""


class CorruptRecord(SourceError):
    """Input bytes that are not what was written. The problem names file and record."""


class SourceUnavailable(DepthtokError):
    """A file, mostly of the source, cannot be read now: it is away, or reading it failed.

    Not a `SourceError`: nothing is known of the bytes, so it is no episode's failure. It ends a
    run, which the same command resumes.
    """


class NotAFile(SourceUnavailable):
    """A named pipe, a device, a socket or a directory lies where a file must: it is not opened."""


class StoreError(DepthtokError):
    """A store that cannot be used as it is."""


class StaleStore(StoreError):
    """A store made with other settings, or from other data, than the run at hand."""


class CorruptPart(StoreError):
    """A part whose bytes differ from its manifest."""


class MissingParts(StoreError):
    """A store that lacks parts its source has."""


class OutputError(StoreError):
    """The output cannot be written: disk full, read-only, or not an empty place or a store."""


class InUse(OutputError):
    """Another process writes to this output now."""


NOT_AS_WRITTEN = ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError


@contextmanager
def as_written(path: object, remedy: str) -> Iterator[None]:
    """Raises `CorruptPart` for whatever goes wrong while a block takes apart a description of ours:
    its digest may fit, but it is nothing that we write. The block does nothing else."""
    try:
        yield
    except NOT_AS_WRITTEN as error:
        kind = type(error).__name__
        problem = f"{path} is not as depthtok writes it ({kind}: {error})"
        raise CorruptPart(problem, remedy=remedy) from error


def as_type(kind: type[T], value: object) -> T:
    """The value, if it is exactly of this type; else raises `TypeError`, for `as_written`."""
    if type(value) is not kind:
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


class DepthKindError(DepthtokError):
    """Disparity met metres."""


class MissingPackage(DepthtokError):
    """A package of an extra is not installed."""


class WorkerDied(DepthtokError):
    """A process ended before its work did. The problem names it."""


class WeightsError(DepthtokError):
    """A checkpoint is absent, or does not fit the network."""


class WeightsNotHere(WeightsError):
    """Weights that would have to be fetched, where nothing may be."""


class TrainingError(DepthtokError):
    """A training that has gone wrong beyond repair."""


class GateError(DepthtokError):
    """A codebook below the limits of the quality gate."""


def did_you_mean(word: str, choices: list[str] | tuple[str, ...], otherwise: str = "") -> str:
    """`Did you mean 'x'?`; where nothing is near, `otherwise`, or the list of choices."""
    import difflib

    if matches := difflib.get_close_matches(word, choices, n=1):
        return f"Did you mean {matches[0]!r}?"
    if otherwise:
        return otherwise
    return f"Known: {', '.join(sorted(choices))}." if choices else "There is none to choose from."


def known_cameras(cameras: Iterable[str]) -> str:
    """All cameras of a store: the name that is nearest to another robot's camera tells nothing."""
    return f"its cameras: {', '.join(cameras)}"
