"""What a command says at its end. Words and machine-readable results never share a stream."""

import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from shutil import which
from typing import Any, Protocol, runtime_checkable

from depthtok.config import to_json
from depthtok.errors import OutputError

_UNPRINTABLE = re.compile(  # control characters, surrogates, and what turns the reading direction
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def plain(text: str) -> str:
    """`text` for a terminal: characters that would steer it are shown by their codes."""
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


QUIET = "DEPTHTOK_QUIET"
"""Set in the environment (by `depthtok --quiet`, too): no progress, no `next:`, no titles."""
RED, YELLOW, CYAN = "31;1", "33;1", "36"


@runtime_checkable
class TextStream(Protocol):
    """What is used of stdout and stderr, or of what replaces them."""

    def write(self, text: str, /) -> object: ...

    def flush(self) -> None: ...

    def isatty(self) -> bool: ...


def quiet() -> bool:
    """Whether only results, warnings and errors are printed."""
    return os.environ.get(QUIET, "0") not in ("", "0")


def coloured(text: str, colour: str, stream: TextStream) -> str:
    """`text` in a colour where the stream is a terminal that shows any and NO_COLOR is not set."""
    shown = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"\x1b[{colour}m{text}\x1b[0m" if shown else text


@contextmanager
def above_bars() -> Iterator[None]:
    """Takes progress bars off the screen for what is printed in the block, and shows them again
    below it."""
    std = sys.modules.get("tqdm.std")
    if std is None:
        yield
        return
    with std.tqdm.external_write_mode(file=sys.stderr):
        yield


def say(*lines: str, json: bool = False) -> None:
    """Print lines for people: what was made, where, what to type next.

    On stdout, or on stderr with `json`, because then stdout belongs to the result alone.
    """
    _say("\n".join(map(plain, lines)), json=json)


def title(text: str) -> None:
    """Print the heading of a step of a larger command, below an empty line; not when `quiet`."""
    if not quiet():
        _say(f"\n{plain(text)}", json=False)


def _say(text: str, *, json: bool) -> None:
    if json:
        with silenced(), above_bars():
            print(text, file=sys.stderr, flush=True)
    else:
        _out(text)


_suggesting: ContextVar[bool] = ContextVar("suggesting", default=True)


def suggest(text: str, json: bool = False) -> None:
    """Print what to type next, unless a larger command has planned that already, or `quiet`."""
    if _suggesting.get() and not quiet():
        head = coloured("next:", CYAN, sys.stderr if json else sys.stdout)
        _say(f"{head} {plain(text)}", json=json)


def typed(*words: object) -> str:
    """A command of depthtok as it is typed in a shell: names with spaces are quoted. Where the
    shell does not find `depthtok`, it is the path by which this process was started."""
    started = sys.argv[0] if sys.argv else ""  # an interpreter inside another program has none
    is_ours = Path(started).name == "depthtok" and which("depthtok") is None
    return shlex.join([started if is_ours else "depthtok", *map(str, words)])


@contextmanager
def unsuggesting() -> Iterator[None]:
    """Turns `suggest` off in the block, whose commands are steps of a larger one."""
    token = _suggesting.set(False)
    try:
        yield
    finally:
        _suggesting.reset(token)


_hearing: ContextVar[Callable[[Any], None] | None] = ContextVar("hearing", default=None)


def announce(event: Any) -> None:
    """Hands what has been done so far to whoever started the work, such as a command that prints
    it; without anyone, nothing happens."""
    hear = _hearing.get()
    if hear is not None:
        hear(event)


@contextmanager
def hearing(hear: Callable[[Any], None]) -> Iterator[None]:
    """Has `hear` called with everything that is announced in the block."""
    token = _hearing.set(hear)
    try:
        yield
    finally:
        _hearing.reset(token)


def warn(text: str) -> None:
    """Print one line on stderr that people should not miss. Of processes that torchrun started, all
    of which find the same, the first one does."""
    if os.environ.get("RANK", "0") != "0":
        return
    head = coloured("warning:", YELLOW, sys.stderr)
    with silenced(), above_bars():
        print(f"{head} {plain(text)}", file=sys.stderr, flush=True)


def result(value: Any) -> None:
    """Print a result (plain values, or settings) as JSON on stdout, keys in the order given."""
    _out(json.dumps(to_json(value), indent=2, ensure_ascii=False))


def _out(text: str) -> None:
    """Prints on stdout. Raises `OutputError` where it cannot be written, on a full disk; a reader
    that went away (`| head`) is an error of the system's."""
    try:
        with above_bars():
            print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        let_go_of_stdout()
        raise OutputError(
            f"cannot write the standard output: {error.strerror or error}",
            remedy="what was made is kept; free some space, or send the output elsewhere, and run "
            "the same command again",
        ) from error


def let_go_of_stdout() -> None:
    """Flushes stdout, or points it at /dev/null where that fails and would fail again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError, ValueError), Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


@contextmanager
def silenced() -> Iterator[None]:
    """Ignores errors of printing to stderr, such as a full disk, but not of a closed pipe."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError:
        return
