"""Ends what a local Ray leaves behind, also where the process that started it is killed.

    python -I -S ray_reaper.py MARK

A process of its own, which waits for the end of its standard input: the driver holds the other
end, and the kernel closes that however the driver ends. Ray's own processes then have a few seconds
to leave by themselves (its agents would take a minute); those that do not are killed. They are
known by MARK, a variable in their environment. Imports nothing but the standard library.
"""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

VARIABLE = "DEPTHTOK_RAY"
GRACE_SECONDS = 4.0  # to leave by themselves, once the driver is gone
KILL_SECONDS = 5.0  # to be gone once killed
STARTED = b"s"  # Ray runs
ORDERLY = b"."  # Ray was shut down: whatever is left need not be waited for
ENDED = (
    "error: the command ended as its Ray started: a process of Ray died, or it was killed\n"
    "  fix: run the same command again: it resumes; if it happens again, check the memory here\n"
)


class Reaper:
    """The process that reaps, as its driver sees it. `mark` goes into the environment of what is to
    be reaped; empty where nothing is."""

    def __init__(self, mark: str, process: subprocess.Popen[bytes] | None) -> None:
        self.mark, self._process = mark, process

    def started(self) -> None:
        """To be called when Ray runs. Before that, Ray may end this process without a word that
        people understand: the reaper then says it."""
        if self._process and self._process.stdin:
            with suppress(
                BrokenPipeError
            ):  # it was killed: nobody reaps, and Ray runs all the same
                self._process.stdin.write(STARTED)


@contextmanager
def reaped() -> Iterator[Reaper]:
    """Processes with the reaper's mark outlive neither the block nor this process. Where there is
    no /proc, nothing is reaped."""
    mark = f"{os.getpid()}.{secrets.token_hex(8)}"
    if not Path("/proc/self/environ").exists():
        yield Reaper("", None)
        return
    reaper = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, mark],
        stdin=subprocess.PIPE,
        bufsize=0,
        stdout=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
    try:
        yield Reaper(mark, reaper)
    finally:
        try:
            reaper.communicate(ORDERLY, timeout=2 * KILL_SECONDS)
        except subprocess.TimeoutExpired:
            reaper.kill()
            reaper.communicate()


def marked(mark: str) -> list[int]:
    """The numbers of the processes that have the mark, but for zombies and this process."""
    variable = f"{VARIABLE}={mark}".encode()
    processes = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if variable in (entry / "environ").read_bytes().split(b"\0"):
                processes.append(int(entry.name))
        except OSError:  # another user's, or gone
            continue
    return [process for process in processes if process != os.getpid()]


def reap(mark: str, grace: float) -> None:
    """Waits for the marked processes to end, and kills those that live after `grace` seconds."""
    started = time.monotonic()
    while (processes := marked(mark)) and time.monotonic() - started < grace + KILL_SECONDS:
        if time.monotonic() - started >= grace:
            for process in processes:
                try:
                    os.kill(process, signal.SIGKILL)
                except OSError:
                    continue
        time.sleep(0.05)


if __name__ == "__main__":
    state = os.read(0, 1)
    if not state:
        sys.stderr.write(ENDED)
        sys.stderr.flush()
    os.dup2(1, 2)  # whoever reads the driver's messages need not wait for this process
    while byte := os.read(0, 1):
        state = byte
    reap(sys.argv[1], 0.0 if state == ORDERLY else GRACE_SECONDS)
