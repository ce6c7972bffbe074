"""Many clients of one policy server: answers a second, and how long a client waits.

    python benchmarks/serve_clients.py [--clients 50] [--batch 1 8 16] [--device cpu] [--rounds 3]

Every client asks again as soon as it is answered, over its own connection, from another process.
The widths of a pass alternate, so that load slows all; medians over the rounds. Random weights.
Needs the extra `serve`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import threading
import time
from itertools import chain

import numpy as np
import torch
from policy_ms import made, units

from vla.data.tokenizer import ByteTokenizer
from vla.named_configs import load
from vla.serving.policy import Policy
from vla.serving.running import Running
from vla.serving.server import make_server
from vla.serving.wire import pack

CAMERAS = ("main", "wrist", "third")


async def client(port: int, number: int, times: int, message: bytes) -> list[float]:
    """Asks some times; seconds of each answer."""
    from websockets.asyncio.client import connect

    spent = []
    address = f"ws://127.0.0.1:{port}"
    async with connect(address, compression=None, open_timeout=60, ping_interval=None) as socket:
        await socket.recv()
        for _ in range(times):
            begun = time.perf_counter()
            await socket.send(message)
            if isinstance(await socket.recv(), str):
                raise RuntimeError(f"client {number} was refused")
            spent.append(time.perf_counter() - begun)
    return spent


async def crowd(port: int, clients: int, times: int, cameras: int) -> dict[str, float]:
    """All clients at once."""
    dice = np.random.default_rng(0)
    images = {
        f"observation/{name}": dice.integers(0, 256, (224, 224, 3), np.uint8)
        for name in CAMERAS[:cameras]
    }
    message = pack({**images, "observation/state": np.zeros(8), "prompt": "open the drawer"})
    begun = time.perf_counter()
    everyone = (client(port, n, times, message) for n in range(clients))
    waits = sorted(chain.from_iterable(await asyncio.gather(*everyone)))
    return {
        "answers_per_s": len(waits) / (time.perf_counter() - begun),
        "median_ms": 1000 * statistics.median(waits),
        "slowest_ms": 1000 * waits[-1],
    }


def measure(policy: Policy, options: argparse.Namespace) -> dict[str, float]:
    """One round: a server of its own, and the crowd in a process of its own."""
    with make_server(policy, port=0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.socket.getsockname()[1]
        words = ["--ask", port, "--clients", options.clients, "--times", options.times]
        words = [sys.executable, __file__, *words, "--cameras", options.cameras]
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=True)
        server.shutdown()
        thread.join()
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--times", type=int, default=4, help="requests of each client")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 16])
    parser.add_argument("--cameras", type=int, default=1)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--ask", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask is not None:
        crowded = crowd(options.ask, options.clients, options.times, options.cameras)
        print(json.dumps(asyncio.run(crowded)))
        return
    names = CAMERAS[: options.cameras]
    config = load(options.preset, {"model.cameras": options.cameras, "data.cameras": names})
    device, durations = torch.device(options.device), {batch: [] for batch in options.batch}
    policies = {
        batch: Policy(
            made(config, device),
            config,
            units(config),
            device=device,
            running=Running(options.precision, batch=batch),
            reader=ByteTokenizer(),
        )
        for batch in options.batch
    }
    for _ in range(options.rounds):
        for batch, policy in policies.items():
            durations[batch].append(measure(policy, options))
    first = statistics.median(row["answers_per_s"] for row in durations[options.batch[0]])
    for batch, several in durations.items():
        row = {
            name: statistics.median(row_of_one[name] for row_of_one in several)
            for name in several[0]
        }
        print(
            f"{options.clients} clients, batch {batch:3}: {row['answers_per_s']:7.1f} answers/s "
            f"({row['answers_per_s'] / first:.2f} x), median {row['median_ms']:.0f} ms, "
            f"slowest {row['slowest_ms']:.0f} ms"
        )


if __name__ == "__main__":
    main()
