"""Serves a policy over openpi's websocket protocol, so that its stock clients can use it.

The server first sends a map that describes the policy. Each request is one binary message, a map of
`observation/<camera>` (uint8 [H W 3]), `observation/state` (float [P]) and `prompt`; each reply a
map of `actions` (float32 [chunk, A], in the data set's units, the gripper in the convention that
the description names) and `server_timing`. A text message reports an error, and ends the
connection. `GET /healthz` answers 200.

Every connection has its own noise, which begins with the policy's seed: a client's answers do not
depend on who else is served. Requests are answered one at a time in the order of their arrival, at
most one per client: batches would be faster, but the bits of an answer depend on its batch.

Needs the packages `websockets` and `msgpack`.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import socket
import threading
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from typing import Any

import numpy as np
import torch

from depthtok.errors import ConfigError, DepthtokError, MissingPackage
from depthtok.log import plain, warn
from depthtok.meaning import UNKNOWN
from vla.serving.policy import Policy
from vla.serving.wire import pack, unpack
from vla.training import checkpoint

IMAGE_LIMIT = 4096  # px, longest side
PROMPT_LIMIT = 2000  # characters
ERROR_LIMIT = 1000  # characters of an error that are sent
INTERNAL_ERROR = 1011  # the close code that openpi's clients expect after an error
STATE, PROMPT = "observation/state", "prompt"
# How names of fields begin, here and in the protocol.
THEIRS = {"images/": "observation/", "proprio": STATE, "instruction": PROMPT}


class PolicyServer:
    """Answers clients: `with make_server(policy) as server: server.serve_forever()`, which ends by
    `shutdown()` from another thread. `socket` is bound already."""

    def __init__(
        self, policy: Policy, bound: socket.socket, api_key: str | None, origins: Collection[str]
    ) -> None:
        from vla.serving.clients import Clients

        self.socket = bound
        self._policy, self._api_key, self._origins = policy, api_key, origins
        self._clients = Clients()
        self._greeting = pack(describe(policy))
        self._loop: asyncio.AbstractEventLoop | None = None  # while it answers
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="server")
        self._done = threading.Event()
        self._worker = ThreadPoolExecutor(1, "policy")  # first come, first served

    def serve_forever(self) -> None:
        """Answers until `shutdown`; the calling thread only waits."""
        if not self._stop.is_set():
            self._loop = asyncio.new_event_loop()
            self._thread.start()
            self._done.wait()  # not `join`, which a signal's exception leaves in disorder

    def shutdown(self) -> None:
        """Disconnects all clients and ends `serve_forever`."""
        if self._loop is None:
            self._stop.set()
        elif not self._done.is_set():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._done.wait()
        self._worker.shutdown(cancel_futures=True)
        self.socket.close()

    def __enter__(self) -> PolicyServer:
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()
            self._done.set()

    async def _serve(self) -> None:
        from websockets.asyncio.server import serve

        from vla.serving import clients

        watch = asyncio.create_task(self._clients.watch())
        async with serve(
            self._talk, sock=self.socket, compression=None, max_size=clients.MESSAGE_LIMIT,
            max_queue=1, close_timeout=clients.CLOSE_SECONDS, process_request=self._admit,
            create_connection=partial(clients.Client, self._clients), logger=_logger(),
            backlog=clients.BACKLOG,
        ):  # fmt: skip
            await self._stop.wait()
            self._clients.abort_closing()  # the others are told
            watch.cancel()

    def _admit(self, client, request):
        """The HTTP reply to a request that is refused or not a websocket; None to continue."""
        if request.path == "/healthz":
            return client.respond(HTTPStatus.OK, "OK\n")
        if not set(request.headers.get_all("Origin")) <= set(self._origins):
            told = "web pages are refused, unless the server was started with --origin and theirs\n"
            return client.respond(HTTPStatus.FORBIDDEN, told)
        if self._api_key is not None and not _knows(request, self._api_key):
            return client.respond(HTTPStatus.UNAUTHORIZED, "wrong or missing API key\n")
        if self._clients.full:
            told = f"{len(self._clients.admitted)} clients are connected already\n"
            return client.respond(HTTPStatus.SERVICE_UNAVAILABLE, told)
        self._clients.admit(client)
        return None

    async def _talk(self, client) -> None:
        """Answers one client's requests until it disconnects or sends a bad one."""
        from websockets.exceptions import ConnectionClosed

        from vla.serving.clients import brief

        noise = self._policy.generator()
        try:
            await client.send(self._greeting)
            async for message in client:
                answer = partial(self._answer, client, message, noise)
                try:
                    reply = await self._loop.run_in_executor(self._worker, answer)
                except DepthtokError as error:
                    told = as_sent(error)
                    await client.send(plain(str(told))[:ERROR_LIMIT])
                    await client.close(INTERNAL_ERROR, brief(plain(told.problem)))
                    return
                client.answered()
                if reply is not None:
                    await client.send(reply)
        except ConnectionClosed as error:
            if not client.gone and error.rcvd is None:
                warn(f"{client.name} went away without a word")

    def _answer(self, client, message: bytes | str, noise: torch.Generator) -> bytes | None:
        """The reply to a request; None if nobody waits for it any more."""
        from vla.serving.clients import is_open

        if not is_open(client):
            return None
        begun = time.perf_counter()
        actions = self._policy.act(observation(message), noise)
        if not np.isfinite(actions).all():
            raise ConfigError(
                f"{STATE} leads to actions that are not finite",
                remedy="give values in the range and unit of the data set",
            )
        spent = 1000 * (time.perf_counter() - begun)
        return pack({"actions": actions, "server_timing": {"infer_ms": spent}})


def make_server(
    policy: Policy,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    api_key: str | None = None,
    origins: Collection[str] = (),
) -> PolicyServer:
    """A server of `policy`, bound and not started.

    With `api_key`, clients must send the header `Authorization: Api-Key KEY`. Browsers are refused,
    but for pages of `origins`. Raises `MissingPackage`, and `OSError` for an address that cannot be
    served on.
    """
    try:
        import websockets.asyncio.server  # noqa: F401
    except ImportError as error:
        raise MissingPackage(
            "serving needs the package `websockets`, 13 or newer",
            remedy="pip install msgpack 'websockets>=13'",
        ) from error
    from vla.serving.clients import BACKLOG

    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, *_, address = found[0]
    bound = socket.create_server(address[:2], family=family, backlog=BACKLOG)
    return PolicyServer(policy, bound, api_key, frozenset(origins))


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


def _knows(request, api_key: str) -> bool:
    """Whether a request carries the key."""
    sent = request.headers.get_all("Authorization")
    wanted = f"Api-Key {api_key}".encode()
    return len(sent) == 1 and hmac.compare_digest(
        sent[0].encode("utf-8", "surrogateescape"), wanted
    )


def _logger() -> logging.Logger:
    """Where websockets reports what fails: mistakes of ours with their traceback, and connections
    that do not speak HTTP in one line."""
    logger = logging.getLogger("depthtok.serve")
    logger.addFilter(_in_one_line)
    return logger


def _in_one_line(record: logging.LogRecord) -> bool:
    if record.exc_info and record.msg != "connection handler failed":
        record.msg, record.args = f"{record.msg}: {record.exc_info[1]!r}", ()
        record.exc_info = None
    return True


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
    prompt = fields.get(PROMPT)
    if isinstance(prompt, str) and len(prompt) > PROMPT_LIMIT:
        raise ConfigError(
            f"{PROMPT} has {len(prompt)} characters", remedy=f"send at most {PROMPT_LIMIT}"
        )
    found: dict[str, Any] = {"images": images}
    for theirs, ours in ((STATE, "proprio"), (PROMPT, "instruction")):
        if theirs in fields:
            found[ours] = fields[theirs]
    return found
