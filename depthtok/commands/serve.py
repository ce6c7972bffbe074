"""serve: a trained policy over openpi's websocket protocol."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from depthtok.commands.train import Device
from depthtok.errors import ConfigError
from depthtok.log import say, warn
from depthtok.options import command

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
        int, typer.Option("--seed", help="seed of the noise that actions start from")
    ] = 0,
    averaged: Annotated[
        bool,
        typer.Option("--averaged/--last", help="use the moving average of the weights, where kept"),
    ] = True,
    cuda_graph: Annotated[
        bool, typer.Option("--cuda-graph", help="replay inference as one CUDA graph: less latency")
    ] = False,
    origin: Annotated[
        list[str] | None,
        typer.Option("--origin", help="let web pages of this origin in, as http://localhost:3000"),
    ] = None,
    device: Device = "auto",
) -> None:
    """Serve a policy to openpi clients over a websocket.

    Where DEPTHTOK_API_KEY is set, clients must send it. Every connection has noise of its own,
    which begins with --seed. openpi's LIBERO client takes 5 actions of a chunk: run it with
    --args.replan-steps 4 for a policy of chunk 4.

    Example: depthtok serve runs/policy --port 8000
    """
    from ipaddress import ip_address

    from depthtok.signals import Stopped, stoppable
    from pipelines.device import choose
    from vla.policy import Policy
    from vla.serve import describe, make_server

    policy = Policy.load(
        run, dataset=dataset, device=choose(device), averaged=averaged, seed=seed,
        cuda_graph=cuda_graph,
    )  # fmt: skip
    api_key = os.environ.get(KEY) or None
    try:
        server = make_server(policy, host, port, api_key=api_key, origins=origin or ())
    except OSError as error:
        raise ConfigError(
            f"cannot serve on {host}, port {port}: {error}",
            remedy="give another --port (0 takes a free one), or another --host",
        ) from error
    with server:
        address, number = server.socket.getsockname()[:2]
        host = f"[{host}]" if ":" in host else host
        about = describe(policy)
        say(
            f"{run}: cameras {', '.join(about['cameras'])}; state of {about['state_dim']}, "
            f"{about['action_horizon']} actions of {about['action_dim']} at once",
            f"serving on ws://{host}:{number} (health: http://{host}:{number}/healthz)",
        )
        if not ip_address(address).is_loopback and api_key is None:
            warn(
                f"whoever reaches {host}:{number} can use this policy: set {KEY}, or serve on "
                "127.0.0.1 and let clients in through ssh -L"
            )
        try:
            with stoppable():
                server.serve_forever()
        except Stopped:
            say("stopped")
