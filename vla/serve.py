"""Serves a policy over openpi's websocket protocol, so that its stock clients can use it.

The server first sends a map that describes the policy. Each request is one binary message, a map of
`observation/<camera>` (uint8 [H W 3]), `observation/state` (float [P]) and `prompt`; each reply a
map of `actions` (float32 [chunk, A], in the data set's units, the gripper in the convention that
the description names) and `server_timing`. A text message reports an error, and ends the
connection. `GET /healthz` answers 200.

Needs the packages `websockets` and `msgpack`.
"""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import numpy as np

from depthtok.errors import ConfigError, DepthtokError, MissingPackage
from depthtok.meaning import UNKNOWN
from vla import checkpoint
from vla.policy import Policy
from vla.wire import pack, unpack

MESSAGE_LIMIT = 64 * 2**20  # bytes of one request
IMAGE_LIMIT = 4096  # px, longest side
INTERNAL_ERROR = 1011  # the close code that openpi's clients expect after an error
STATE, PROMPT = "observation/state", "prompt"
# How names of fields begin, here and in the protocol.
THEIRS = {"images/": "observation/", "proprio": STATE, "instruction": PROMPT}

Act = Callable[[Mapping[str, Any]], np.ndarray]


def make_server(
    policy: Policy, host: str = "127.0.0.1", port: int = 8000, *, api_key: str | None = None
):
    """A server that answers in its own threads: `with make_server(policy) as server:
    server.serve_forever()`; `server.shutdown()` stops it.

    With `api_key`, clients must send the header `Authorization: Api-Key KEY`. Requests of several
    clients take turns. Raises `MissingPackage`.
    """
    try:
        from websockets.sync.server import serve
    except ImportError as error:
        raise MissingPackage(
            "serving needs the package `websockets`", remedy="pip install msgpack websockets"
        ) from error
    turn = threading.Lock()

    def act(observation: Mapping[str, Any]) -> np.ndarray:
        with turn:
            return policy.act(observation)

    greeting = pack(describe(policy))
    return serve(
        lambda connection: _talk(connection, act, greeting),
        host,
        port,
        compression=None,
        max_size=MESSAGE_LIMIT,
        process_request=lambda connection, request: _admit(connection, request, api_key),
    )


def describe(policy: Policy) -> dict[str, Any]:
    """The description of the policy that a client gets on connecting: enough to tell whether two
    answers came from the same weights, and what their numbers mean (None: not known)."""
    config, place, spoken = policy.config, policy.place, policy.spoken
    made = {}
    if place is not None:
        step = checkpoint.read_state(place).step
        made = {"step": step, "weights": checkpoint.weights_sha256(place)}
    return {
        **made,
        "name": config.name,
        "cameras": list(config.data.cameras),
        "action_horizon": config.model.chunk,
        "action_dim": config.model.action_dim,
        "state_dim": config.model.proprio_dim,
        "gripper": spoken.gripper if spoken else UNKNOWN,
        "meaning": spoken.to_json() if spoken else None,
    }


def _admit(connection, request, api_key: str | None):
    """The HTTP reply to a request that is refused or not a websocket; None to continue."""
    if request.path == "/healthz":
        return connection.respond(HTTPStatus.OK, "OK\n")
    given = request.headers.get("Authorization", "")
    if api_key is not None and not hmac.compare_digest(
        given.encode(), f"Api-Key {api_key}".encode()
    ):
        return connection.respond(HTTPStatus.UNAUTHORIZED, "wrong or missing API key\n")
    return None


def _talk(connection, act: Act, greeting: bytes) -> None:
    """Answers one client's requests until it disconnects or sends a bad one."""
    connection.send(greeting)
    for message in connection:
        begun = time.perf_counter()
        try:
            actions = act(observation(message))
        except DepthtokError as error:
            told = as_sent(error)
            connection.send(str(told))
            connection.close(INTERNAL_ERROR, told.problem[:100])
            return
        spent = 1000 * (time.perf_counter() - begun)
        connection.send(pack({"actions": actions, "server_timing": {"infer_ms": spent}}))


def as_sent(error: DepthtokError) -> DepthtokError:
    """An error of `Policy.act`, with the field at its start renamed as in the protocol."""
    for ours, theirs in THEIRS.items():
        if error.problem.startswith(ours):
            return type(error)(theirs + error.problem.removeprefix(ours), remedy=error.remedy)
    return error


def observation(message: bytes | str) -> dict[str, Any]:
    """A request as input of `Policy.act`. Raises a `ConfigError` that names the bad field."""
    if isinstance(message, str):
        raise ConfigError("a text message", remedy="send binary msgpack, as openpi-client does")
    fields = unpack(message)
    if not isinstance(fields, dict):
        raise ConfigError("the message is not a map", remedy="send a map of observation fields")
    images = {
        name.removeprefix("observation/"): value
        for name, value in fields.items()
        if isinstance(name, str) and name.startswith("observation/") and name != STATE
    }
    for name, image in images.items():
        if isinstance(image, np.ndarray) and max(image.shape, default=0) > IMAGE_LIMIT:
            raise ConfigError(
                f"observation/{name} is {image.shape}", remedy=f"send at most {IMAGE_LIMIT} px"
            )
    found: dict[str, Any] = {"images": images}
    for theirs, ours in ((STATE, "proprio"), (PROMPT, "instruction")):
        if theirs in fields:
            found[ours] = fields[theirs]
    return found
