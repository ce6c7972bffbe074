"""Hosts on one machine: other names, addresses and process numbers, and the same file system.

Needs root, `unshare` and `nsenter` (util-linux) and `ip` (iproute2).
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NETWORK = "10.214.77"


def possible() -> bool:
    """Whether this process may make hosts."""
    tools = all(map(shutil.which, ("unshare", "nsenter", "ip")))
    return tools and os.geteuid() == 0 and _ran("unshare", "--uts", "--net", "--pid", "-f", "true")


@dataclass
class Host:
    """A network, a name and a space of process numbers of its own. All its processes end with its
    first one."""

    name: str
    number: int
    holder: subprocess.Popen
    first: int  # its first process, as it is numbered outside

    @property
    def address(self) -> str:
        return f"{NETWORK}.{self.number}"

    def command(self, words: Sequence[object]) -> list[str]:
        """What to run here so that the words are run there."""
        enter = ["nsenter", "-t", str(self.first), "-u", "-n", "-p", "-m", f"-w{Path.cwd()}"]
        return [*enter, "--", *map(str, words)]

    def start(
        self, words: Sequence[object], more: Mapping[str, str] | None = None
    ) -> subprocess.Popen:
        """Starts a command there; its messages are kept."""
        return subprocess.Popen(
            self.command(words),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(more or {})},
        )

    def crash(self) -> None:
        """Ends all its processes at once, and its network."""
        if self.holder.poll() is None:
            os.kill(self.first, signal.SIGKILL)
            self.holder.wait()


def boot(number: int, name: str) -> Host:
    """A host, joined to the others by the bridge."""
    script = f"hostname {name}; ip link set lo up; exec sleep infinity"
    flags = ["--uts", "--net", "--pid", "--fork", "--mount-proc", "--kill-child"]
    holder = subprocess.Popen(["unshare", *flags, "sh", "-c", script], stderr=subprocess.DEVNULL)
    children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children")
    for _ in range(500):
        first = children.read_text().split()
        if first and Path(f"/proc/{first[0]}/comm").read_text().strip() == "sleep":
            break
        time.sleep(0.01)
    host = Host(name, number, holder, int(first[0]))
    outside = f"dth{secrets.token_hex(4)}"  # the one of a crashed host may be there for a while
    _ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", host.first)
    _ip("link", "set", outside, "master", _bridge(), "up")
    for words in (f"addr add {host.address}/24 dev eth0", "link set eth0 up"):
        subprocess.run(host.command(["ip", *words.split()]), check=True)
    return host


@contextmanager
def network() -> Iterator[None]:
    """The bridge between the hosts of this process."""
    _ip("link", "add", _bridge(), "type", "bridge")
    _ip("link", "set", _bridge(), "up")
    try:
        yield
    finally:
        _ip("link", "delete", _bridge())


def _bridge() -> str:
    return f"dtbr{os.getpid() % 100000}"


def _ip(*words: object) -> None:
    subprocess.run(["ip", *map(str, words)], check=True)


def _ran(*words: str) -> bool:
    return subprocess.run(words, capture_output=True).returncode == 0
