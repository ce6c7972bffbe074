"""Two hosts fill one store on a shared file system, and are killed at random moments.

    python benchmarks/two_hosts.py --rounds 30            # --shard 1/2 on one, 2/2 on the other
    python benchmarks/two_hosts.py --rounds 3 --ray       # a Ray cluster of two machines

Needs root: the hosts are namespaces of this machine with names, addresses and process numbers of
their own (hosts.py). Each round runs one of convert, annotate and tokenize from an empty store,
kills its processes (of Ray: workers, and the whole second machine) at random moments, starts them
again until they end by themselves, and requires the bytes of an undisturbed run. The last line is
a summary.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from hosts import Host, boot, network

from depthtok.disk.temporaries import sweep_all
from depthtok.testing import make_rlds, tree_digest

STAGES = ("convert", "annotate", "tokenize")
BIN = Path(sys.executable).parent
SECONDS = 300  # that a job may take before it counts as hanging


def job(name: str, root: Path, out: Path) -> list[object]:
    """The command of one stage."""
    source = {"convert": root / "rlds", "annotate": root / "convert", "tokenize": root / "annotate"}
    arguments = {
        "convert": [],
        "annotate": ["--estimator", "dataset"],
        "tokenize": ["--codebook", Path(__file__).parents[1] / "vqvae" / "demo"],
    }
    return [BIN / "depthtok", name, source[name], "--out", out, *arguments[name]]


def shards(
    machines: list[Host],
    words: list[object],
    span: float,
    kills: int,
    rng: np.random.Generator,
    ends: Counter,
) -> None:
    """Runs shard 1/2 on the first host and 2/2 on the second, with kills; a host that crashes is
    booted again, and takes its place in `machines`."""
    for calm in [False] * kills + [True]:
        jobs = [
            host.start([*words, "--shard", f"{number}/2"])
            for number, host in enumerate(machines, 1)
        ]
        if not calm:
            kinds = [("killed", "crashed", "let be")[rng.integers(3)] for _ in jobs]
            started = time.monotonic()
            for at, number in sorted((rng.uniform(0.5, 1.2) * span, n) for n in range(len(jobs))):
                time.sleep(max(0.0, started + at - time.monotonic()))
                host = machines[number]
                if kinds[number] == "killed":
                    below = Path(f"/proc/{jobs[number].pid}/task/{jobs[number].pid}/children")
                    for child in [*map(int, below.read_text().split()), jobs[number].pid]:
                        os.kill(child, signal.SIGKILL)
                elif kinds[number] == "crashed":
                    host.crash()
                    machines[number] = boot(host.number, host.name)
                ends[kinds[number]] += 1
        for process in jobs:
            text = process.communicate(timeout=SECONDS)[0]
            if process.returncode not in (0, -signal.SIGKILL, 137):
                raise SystemExit(f"ended with {process.returncode}:\n{text}")
            ends["ended by itself"] += process.returncode == 0


class Cluster:
    """Ray on both hosts: the head on the first, where the command is given."""

    def __init__(self, machines: list[Host], folder: Path) -> None:
        self.machines, self.folder = machines, folder
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self.where = {"RAY_TMPDIR": str(folder), **token}
        self.port = 6390
        self.begin(0, ["--head", f"--port={self.port}", "--include-dashboard=false"], cpus=1)
        self.begin(1, [f"--address={self.address}"], cpus=2)

    @property
    def address(self) -> str:
        return f"{self.machines[0].address}:{self.port}"

    def begin(self, number: int, words: list[str], cpus: int) -> None:
        """Starts Ray on a host."""
        host = self.machines[number]
        words = [*words, f"--node-ip-address={host.address}", f"--num-cpus={cpus}"]
        words += ["--object-store-memory=100000000", "--disable-usage-stats"]
        started = host.start([BIN / "ray", "start", *words], self.where)
        text = started.communicate(timeout=120)[0]
        assert started.returncode == 0, text

    def reboot(self) -> None:
        """Crashes the second host, and boots it again."""
        host = self.machines[1]
        host.crash()
        self.machines[1] = boot(host.number, host.name)
        self.begin(1, [f"--address={self.address}"], cpus=2)

    def workers(self) -> list[int]:
        """All workers that make parts, on both hosts."""
        return [
            int(entry.name)
            for entry in Path("/proc").glob("[0-9]*")
            if _title(entry).startswith(b"ray::_Worker") and _space(entry) in self.spaces()
        ]

    def spaces(self) -> set[int]:
        return {_space(Path(f"/proc/{host.first}")) for host in self.machines}


def _title(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""


def _space(entry: Path) -> int:
    """The space of process numbers of a process."""
    try:
        return (entry / "ns" / "pid").stat().st_ino
    except OSError:
        return -1


def on_ray(cluster: Cluster, words: list[object], rng: np.random.Generator, ends: Counter) -> None:
    """Runs a command on both hosts, while workers and the second host are killed."""
    flags = ["--workers", 2, "--ray-address", cluster.address]
    for calm in (False, True):
        driver = cluster.machines[0].start([*words, *flags], cluster.where)
        started = time.monotonic()
        while not calm and driver.poll() is None and not cluster.workers():
            time.sleep(0.05)
        for kind in [] if calm else rng.permutation(["worker killed", "host crashed"]):
            time.sleep(rng.uniform(0, 1.5))
            if kind == "host crashed":
                cluster.reboot()
            elif workers := cluster.workers():
                os.kill(int(rng.choice(workers)), signal.SIGKILL)
            else:
                continue
            ends[str(kind)] += 1
        text = driver.communicate(timeout=SECONDS)[0]
        ends[f"ended with {driver.returncode}"] += 1
        ends["longest s"] = max(ends["longest s"], round(time.monotonic() - started))
        clear = "error: " in text and "fix: " in text
        if "Traceback" in text or (driver.returncode and (calm or not clear)):
            raise SystemExit(f"ended with {driver.returncode}:\n{text}")


def undisturbed(words: list[object]) -> float:
    """Runs a command; returns how long it took in seconds."""
    started = time.monotonic()
    subprocess.run(list(map(str, words)), check=True, capture_output=True)
    return time.monotonic() - started


def differs(out: Path, wanted: Path) -> bool:
    """Whether two stores differ; says in what."""
    pairs = tree_digest(out).items() ^ tree_digest(wanted).items()
    names = sorted({name for name, _ in pairs})
    if names:
        print(f"{wanted.name} differs: {', '.join(names)}", flush=True)
    return bool(names)


def main() -> None:
    """Runs the rounds and prints the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=4, help="of each shard's job, at most")
    parser.add_argument("--ray", action="store_true", help="a Ray cluster instead of two shards")
    options = parser.parse_args()
    rng, ends, wrong = np.random.default_rng(options.seed), Counter(), 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, network():
        root = Path(folder)
        make_rlds(root / "rlds", episodes=12, steps=20, shards=6)
        spans = [undisturbed(job(name, root, root / name)) for name in STAGES]
        machines = [boot(number, f"host-{number}") for number in (1, 2)]
        try:
            cluster = Cluster(machines, root / "r") if options.ray else None
            for number in range(options.rounds):
                name, out = STAGES[number % len(STAGES)], root / "out"
                words = job(name, root, out)
                if cluster:
                    on_ray(cluster, words, rng, ends)
                else:
                    span = spans[number % len(STAGES)]
                    shards(machines, words, span, options.kills, rng, ends)
                ends["left by crashed hosts"] += sweep_all(out / "parts")
                wrong += differs(out, root / name)
                shutil.rmtree(out)
        finally:
            for host in machines:
                host.crash()
    print(f"{options.rounds} rounds ({dict(ends)}): {wrong} differ")
    raise SystemExit(wrong > 0)


if __name__ == "__main__":
    main()
