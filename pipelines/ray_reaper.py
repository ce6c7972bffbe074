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
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "DEPTHTOK_RAY"
GRACE_SECONDS = 4.0  # to leave by themselves, once the driver is gone
KILL_SECONDS = 5.0  # to be gone once killed
ORDERLY = b"."  # Ray was shut down: whatever is left need not be waited for


@contextmanager
def reaped() -> Iterator[str]:
    """Yields the mark, for the environment of processes that must not outlive the block, nor this
    process. Where there is no /proc, nothing is reaped, and the mark is empty."""
    mark = f"{os.getpid()}.{secrets.token_hex(8)}"
    if not Path("/proc/self/environ").exists():
        yield ""
        return
    reaper = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, mark], stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", start_new_session=True,
    )  # fmt: skip
    try:
        yield mark
    finally:
        try:
            reaper.communicate(ORDERLY, timeout=2 * KILL_SECONDS)
        except subprocess.TimeoutExpired:
            reaper.kill()
            reaper.communicate()


def marked(mark: str) -> list[int]:
    """The processes that have the mark, zombies apart."""
    wanted = f"{VARIABLE}={mark}".encode()
    processes = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                processes.append(int(entry.name))
        except OSError:  # another user's, or gone
            continue
    return [process for process in processes if process != os.getpid()]


def reap(mark: str, grace: float) -> None:
    """Waits for the marked processes to end, and kills those that do not."""
    begun = time.monotonic()
    while (left := marked(mark)) and time.monotonic() - begun < grace + KILL_SECONDS:
        if time.monotonic() - begun >= grace:
            for process in left:
                try:
                    os.kill(process, signal.SIGKILL)
                except OSError:
                    continue
        time.sleep(0.05)


if __name__ == "__main__":
    orderly = sys.stdin.buffer.read() == ORDERLY
    reap(sys.argv[1], 0.0 if orderly else GRACE_SECONDS)
