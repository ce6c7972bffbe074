"""serve: a trained policy over openpi's websocket protocol."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from depthtok.cli.flags import CudaGraph, Precision, Sampler
from depthtok.cli.options import command
from depthtok.cli.train_vqvae import Device
from depthtok.errors import ConfigError
from depthtok.log import say, warn

KEY = "DEPTHTOK_API_KEY"


def register(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    command(app)(serve)


def serve(
    run: Annotated[Path, typer.Argument(help="a training run, or one of its checkpoints")],
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="0: any free port")] = 8000,
    host: Annotated[
        str, typer.Option("--host", help="0.0.0.0 also accepts other machines")
    ] = "127.0.0.1",
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", help="data set whose units to act in, if trained on several"),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            "--seed", min=0, max=2**63 - 1, help="seed of the noise that actions start from"
        ),
    ] = 0,
    averaged: Annotated[
        bool,
        typer.Option("--averaged/--last", help="use the moving average of the weights, where kept"),
    ] = True,
    precision: Precision = None,
    sampler: Sampler = None,
    batch: Annotated[
        int, typer.Option("--batch", min=1, max=64, help="requests answered in one pass")
    ] = 1,
    cuda_graph: CudaGraph = None,
    gripper: Annotated[
        str | None,
        typer.Option("--gripper", help="the robot's gripper convention, to convert to"),
    ] = None,
    policy_gripper: Annotated[
        str | None,
        typer.Option("--policy-gripper", help="the policy's, where its run does not state it"),
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option("--origin", help="let web pages of this origin in, as http://localhost:3000"),
    ] = None,
    device: Device = "auto",
) -> None:
    """Serve a policy to openpi clients over a websocket.

    Actions are in the units of the training data; the description that clients get on connecting
    names the columns and the gripper's convention. --gripper converts it, say to open1_closed0.

    Where DEPTHTOK_API_KEY is set, clients must send it. Every connection has noise of its own,
    which begins with --seed. With --batch N, up to N requests that wait share a pass, which pays
    with many clients; an answer does not depend on the others. openpi's LIBERO client takes 5
    actions of a chunk: run it with --args.replan-steps 4 for a policy of chunk 4.

    Example: depthtok serve runs/policy --port 8000
    """
    from depthtok.meaning import UNKNOWN
    from depthtok.signals import Stopped, stoppable
    from pipelines.device import choose
    from vla.serving.policy import Policy
    from vla.serving.server import describe, make_server

    policy = Policy.load(
        run, dataset=dataset, device=choose(device), averaged=averaged, seed=seed,
        precision=precision or "float32", sampler=sampler or "auto", cuda_graph=cuda_graph,
        batch=batch,
    )  # fmt: skip
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
    if policy.norms.action.keep and describe(policy)["gripper"] == UNKNOWN:
        warn(
            "what the gripper's numbers mean is not known: state it with --policy-gripper, and "
            "--gripper converts it to the robot's convention"
        )
    with server:
        address, number = server.socket.getsockname()[:2]
        host = f"[{host}]" if ":" in host else host
        about = describe(policy)
        say(
            f"{run}: cameras {', '.join(about['cameras'])}; state of {about['state_dim']}, "
            f"{about['action_horizon']} actions of {about['action_dim']} at once; gripper "
            f"{about['gripper']}; {about['precision']}, {about['sampler']}, batch {about['batch']}",
            f"serving on ws://{host}:{number} (health: http://{host}:{number}/healthz)",
        )
        if api_key is None:
            warn_if_public(address, f"{host}:{number}")
        try:
            with stoppable():
                server.serve_forever()
        except Stopped:
            say("stopped")


def warn_if_public(address: str, shown: str) -> None:
    """Warns where other machines can reach a server that asks for no key."""
    from ipaddress import ip_address

    if not ip_address(address).is_loopback:
        warn(
            f"whoever reaches {shown} can use this policy: set {KEY}, or serve on 127.0.0.1 and "
            "let clients in through ssh -L"
        )
