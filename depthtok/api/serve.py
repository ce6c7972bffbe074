"""A trained policy over openpi's websocket protocol."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from depthtok.api.flags import CudaGraph, Device, Precision, Sampler
from depthtok.api.parameters import Flag, Positional
from depthtok.errors import ConfigError
from depthtok.log import warn

if TYPE_CHECKING:
    from vla.serving.server import PolicyServer

KEY = "DEPTHTOK_API_KEY"


@dataclass(frozen=True)
class Serving:
    """A server that has its address, and answers while `forever` runs; leaving it as a context
    closes it. `about` is the description that clients get on connecting."""

    run: Path
    server: PolicyServer
    host: str
    port: int
    about: Mapping[str, Any]

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def forever(self) -> None:
        """Answers clients until `close` is called in another thread."""
        self.server.serve_forever()

    def close(self) -> None:
        """Ends `forever`, and gives the address back."""
        self.server.shutdown()

    def __enter__(self) -> Serving:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve(
    run: Annotated[Path, Positional("RUN", "a training run, or one of its checkpoints")],
    port: Annotated[int, Flag("0: any free port", least=0, most=65_535)] = 8000,
    host: Annotated[str, "0.0.0.0 also accepts other machines"] = "127.0.0.1",
    dataset: Annotated[str | None, "data set whose units to act in, if trained on several"] = None,
    seed: Annotated[
        int, Flag("seed of the noise that actions start from", least=0, most=2**63 - 1)
    ] = 0,
    averaged: Annotated[
        bool, Flag("use the moving average of the weights, where kept", off="last")
    ] = True,
    precision: Precision = None,
    sampler: Sampler = None,
    batch: Annotated[int, Flag("requests answered in one pass", least=1, most=64)] = 1,
    cuda_graph: CudaGraph = None,
    gripper: Annotated[str | None, "the robot's gripper convention, to convert to"] = None,
    policy_gripper: Annotated[str | None, "the policy's, where its run does not state it"] = None,
    origin: Annotated[
        list[str] | None, "let web pages of this origin in, as http://localhost:3000"
    ] = None,
    device: Device = "auto",
) -> Serving:
    """Serve a policy to openpi clients over a websocket.

    Actions are in the units of the training data; the description that clients get on connecting
    names the columns and the gripper's convention. --gripper converts it, say to open1_closed0.

    Where DEPTHTOK_API_KEY is set, clients must send it. Every connection has noise of its own,
    which begins with --seed. With --batch N, up to N requests that wait share a pass, which pays
    with many clients; an answer does not depend on the others. openpi's LIBERO client takes 5
    actions of a chunk: run it with --args.replan-steps 4 for a policy of chunk 4. A host and port
    that cannot be served on are refused.

    Example: depthtok serve runs/policy --port 8000
    """
    from depthtok.meaning import UNKNOWN
    from pipelines.device import choose
    from vla.serving.policy import Policy
    from vla.serving.server import describe, make_server

    policy = Policy.load(
        run,
        dataset=dataset,
        device=choose(device),
        averaged=averaged,
        seed=seed,
        precision=precision or "float32",
        sampler=sampler or "auto",
        cuda_graph=cuda_graph,
        batch=batch,
    )
    policy.state(policy_gripper)
    if gripper:
        policy.speak(gripper)
    api_key = os.environ.get(KEY) or None
    try:
        server = make_server(policy, host, port, api_key=api_key, origins=origin or ())
    except OSError as error:
        raise ConfigError(
            f"cannot serve on {host}, port {port}: {error}",
            remedy="give another --port (0 takes a free one), or another --host",
        ) from error
    about = describe(policy)
    if policy.norms.action.keep and about["gripper"] == UNKNOWN:
        warn(
            "what the gripper's numbers mean is not known: state it with --policy-gripper, and "
            "--gripper converts it to the robot's convention"
        )
    address, number = server.socket.getsockname()[:2]
    serving = Serving(run, server, f"[{host}]" if ":" in host else host, number, about)
    if api_key is None:
        warn_if_public(address, serving.address)
    return serving


def warn_if_public(address: str, shown: str) -> None:
    """Warns where other machines can reach a server that asks for no key."""
    from ipaddress import ip_address

    if not ip_address(address).is_loopback:
        warn(
            f"whoever reaches {shown} can use this policy: set {KEY}, or serve on 127.0.0.1 and "
            "let clients in through ssh -L"
        )
