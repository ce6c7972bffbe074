"""Serves a policy over openpi's websocket protocol, so that its stock clients can use it.

The server first sends a map that describes the policy. Each request is one binary message, a map of
`observation/<camera>` (uint8 [H W 3]), `observation/state` (float [P]) and `prompt`; each reply a
map of `actions` (float32 [chunk, A], in the data set's units, the gripper in the convention that
the description names) and `server_timing`. A text message reports an error, and ends the
connection. `GET /healthz` answers 200.

Every connection has its own noise, which begins with the policy's seed: a client's answers do not
depend on who else is served. Requests are answered in the order of their arrival, at most one per
client; those that wait at the same moment share a pass, as many as the policy's `batch`. A pass is
always that wide, and was tried not to let one row of it change another (`vla/serving/rows.py`).

Needs the packages `websockets` and `msgpack`.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import socket
import threading
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from typing import Any

from depthtok.errors import DepthtokError, MissingPackage
from depthtok.log import plain, warn
from depthtok.meaning import UNKNOWN
from vla.serving.answers import PROMPT, STATE, Answers
from vla.serving.policy import Policy
from vla.serving.wire import pack
from vla.training import checkpoint

ERROR_LIMIT = 1000  # characters of an error that are sent
INTERNAL_ERROR = 1011  # the close code that openpi's clients expect after an error
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
        self._done = threading.Event()
        self._thread = ThreadPoolExecutor(1, "server")
        self._answers = Answers(policy)

    def serve_forever(self) -> None:
        """Answers until `shutdown`; the calling thread only waits. Raises what ends it before."""
        if not self._stop.is_set():
            self._loop = asyncio.new_event_loop()
            running = self._thread.submit(self._run, self._loop)
            self._done.wait()  # not `result`, which a signal's exception leaves in disorder
            running.result()

    def shutdown(self) -> None:
        """Disconnects all clients and ends `serve_forever`."""
        if self._loop is None:
            self._stop.set()
        elif not self._done.is_set():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._done.wait()
        self._thread.shutdown()
        self._answers.close()
        self.socket.close()

    def __enter__(self) -> PolicyServer:
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.run_until_complete(self._serve())
        finally:
            loop.close()
            self._done.set()

    async def _serve(self) -> None:
        from websockets.asyncio.server import serve

        from vla.serving import clients

        watch = asyncio.create_task(self._clients.watch())
        work = asyncio.create_task(self._answers.work())
        try:
            async with serve(
                self._talk,
                sock=self.socket,
                compression=None,
                max_size=clients.MESSAGE_LIMIT,
                max_queue=1,
                close_timeout=clients.CLOSE_SECONDS,
                process_request=self._admit,
                create_connection=partial(clients.Client, self._clients),  # type: ignore[arg-type]  # a factory will do
                logger=_logger(),
                backlog=clients.BACKLOG,
            ):
                await self._stop.wait()
                self._clients.abort_closing()  # the others are told
                watch.cancel()
        finally:
            for task in (watch, work):  # work after the last client, who may wait for it
                task.cancel()
            await asyncio.gather(watch, work, return_exceptions=True)

    def _admit(self, client, request):
        """The HTTP reply to a request that is refused or not a websocket; None to continue."""
        if request.path == "/healthz":
            return client.respond(HTTPStatus.OK, "OK\n")
        if not set(request.headers.get_all("Origin")) <= set(self._origins):
            text = "web pages are refused, unless the server was started with --origin and theirs\n"
            return client.respond(HTTPStatus.FORBIDDEN, text)
        if self._api_key is not None and not _knows(request, self._api_key):
            return client.respond(HTTPStatus.UNAUTHORIZED, "wrong or missing API key\n")
        if self._clients.full:
            text = f"{len(self._clients.admitted)} clients are connected already\n"
            return client.respond(HTTPStatus.SERVICE_UNAVAILABLE, text)
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
                try:
                    reply = await self._answers.to(client, message, noise)
                except DepthtokError as error:
                    renamed = as_sent(error)
                    await client.send(plain(str(renamed))[:ERROR_LIMIT])
                    await client.close(INTERNAL_ERROR, brief(plain(renamed.problem)))
                    return
                client.answered()
                if reply is not None:
                    await client.send(reply)
        except ConnectionClosed as error:
            if not client.gone and error.rcvd is None:
                warn(f"{client.name} went away without a word")


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

    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, *_, address = addresses[0]
    bound = socket.create_server(address[:2], family=family, backlog=BACKLOG)
    return PolicyServer(policy, bound, api_key, frozenset(origins))


def describe(policy: Policy) -> dict[str, Any]:
    """The description of the policy that a client gets on connecting: enough to tell whether two
    answers came from the same weights, and what their numbers mean (None: not known)."""
    config, path, spoken = policy.config, policy.path, policy.spoken
    identity: dict[str, object] = {}
    if path is not None:
        step = checkpoint.read_state(path).step
        weights = checkpoint.weights_sha256(path)
        if not policy.averaged:  # the average lies there, and did not act
            weights.pop(checkpoint.AVERAGE, None)
        identity = {"step": step, "weights": weights}
    if policy.dataset is not None:
        identity["dataset"] = policy.dataset
    return {
        **identity,
        **policy.running.told(),
        "name": config.name,
        "cameras": list(config.data.cameras),
        "action_horizon": config.model.chunk,
        "action_dim": config.model.action_dim,
        "state_dim": config.model.proprio_dim,
        "gripper": spoken.gripper if spoken else UNKNOWN,
        "meaning": spoken.to_json() if spoken else None,
        "orientations": {camera: str(way) for camera, way in policy.orientations.items()},
    }


def _knows(request, api_key: str) -> bool:
    """Whether a request carries the key."""
    sent = request.headers.get_all("Authorization")
    expected = f"Api-Key {api_key}".encode()
    return len(sent) == 1 and hmac.compare_digest(
        sent[0].encode("utf-8", "surrogateescape"), expected
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
    for field, wire_name in THEIRS.items():
        if error.problem.startswith(field):
            return type(error)(wire_name + error.problem.removeprefix(field), remedy=error.remedy)
    return error
